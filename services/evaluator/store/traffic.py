"""What production asks for: the share of each category among recent requests."""

from sqlalchemy import func, select

from libs.contracts.inference import Role
from libs.outbox.database import Database
from services.evaluator.store.live_tables import live_requests

FEWEST = 200
"""Below so many requests a mix is not known."""


class TrafficMix:
    """The mix as the answers of live versions name it; a task whose answers name no category has none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def shares(self, tenant: str, task: str, since: float) -> dict[str, float]:
        """Share per category since a time (seconds since 1970); empty while too little is known."""
        counted = (
            select(live_requests.c.category, func.count(func.distinct(live_requests.c.request_id)))
            .where(live_requests.c.tenant == tenant, live_requests.c.task == task)
            .where(live_requests.c.answered_at >= since, live_requests.c.category.is_not(None))
            .where(live_requests.c.role.in_((Role.STABLE.value, Role.CANARY.value)))
            .group_by(live_requests.c.category)
            .order_by(live_requests.c.category)
        )
        async with self._database.reading() as session:
            counts = {str(name): int(count) for name, count in await session.execute(counted)}
        total = sum(counts.values())
        return {name: count / total for name, count in counts.items()} if total >= FEWEST else {}
