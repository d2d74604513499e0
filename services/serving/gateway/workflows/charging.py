"""Who pays for an answer: quotas, the ledger of the showback, and the counters that tell the same to a monitor."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from libs.contracts.routes import Arm
from libs.telemetry import counter, kept
from services.serving.gateway.domain import Caller, Chunk, Embedded, Ledger, Purpose, Quotas, Usage, UsageKey, Use
from services.serving.gateway.workflows.plan import Plan

_CHARACTERS_PER_TOKEN = 4
_HOUR = 3600.0


class Charging:
    """Charges answers, whole or broken off, and shadows."""

    def __init__(self, ledger: Ledger, today: Callable[[], str] | None = None) -> None:
        """`today` is the UTC date that an answer is charged to."""
        self.quotas = Quotas()
        self._ledger = ledger
        self._today = today or (lambda: datetime.now(UTC).date().isoformat())
        told = ("tenant", "task", "version")
        self._tokens = kept(counter("gateway_tokens", "Tokens in and out, for showback.", (*told, "kind")))
        self._seconds = kept(counter("gateway_engine_seconds", "Busy time of engines, shared, for showback.", told))
        self._cost = kept(counter("gateway_cost", "What the engines' time cost, for showback.", told))

    def answer(self, plan: Plan, now: float) -> None:
        """An answer that ended, however it did. One broken off is estimated: hanging up early is not free."""
        usage = plan.last.usage if plan.last is not None else None
        if usage is None:
            said = sum(len(each.content) for each in plan.messages) if plan.first_token is not None else 0
            usage = Usage(said // _CHARACTERS_PER_TOKEN, len("".join(plan.text)) // _CHARACTERS_PER_TOKEN)
        seconds = plan.last.engine_seconds if plan.last is not None else 0.0
        self.quotas.charge(plan.caller, usage.prompt_tokens + usage.completion_tokens, now)
        self._charge(plan, plan.arm, plan.query.purpose, usage, seconds, plan.hourly_cost)

    def shadow(self, plan: Plan, arm: Arm, chunks: Sequence[Chunk], hourly_cost: float) -> None:
        """A shadow's answer: on the tenant's bill, not against its quota."""
        if chunks:
            last = chunks[-1]
            self._charge(plan, arm, Purpose.SHADOW, last.usage or Usage(), last.engine_seconds, hourly_cost)

    def embedding(
        self, caller: Caller, task: str, version: int, found: Embedded, hourly_cost: float, now: float
    ) -> None:
        """Vectors of texts: tokens in, none out."""
        tokens, seconds = found.prompt_tokens, found.engine_seconds
        self.quotas.charge(caller, tokens, now)
        key = UsageKey(self._today(), caller.tenant, task, version, Purpose.USE.value, caller.name)
        self._bill(key, Use(1, tokens, 0, seconds, seconds * hourly_cost / _HOUR))

    def _charge(self, plan: Plan, arm: Arm, purpose: Purpose, usage: Usage, seconds: float, hourly_cost: float) -> None:
        cost = seconds * hourly_cost / _HOUR
        key = UsageKey(self._today(), plan.caller.tenant, plan.route.task, arm.version, purpose.value, plan.caller.name)
        self._bill(key, Use(1, usage.prompt_tokens, usage.completion_tokens, seconds, cost))

    def _bill(self, key: UsageKey, use: Use) -> None:
        self._ledger.add(key, use)
        name = (key.tenant, key.task, str(key.version))
        self._tokens(*name, "prompt").inc(use.prompt_tokens)
        self._tokens(*name, "completion").inc(use.completion_tokens)
        self._seconds(*name).inc(use.engine_seconds)
        self._cost(*name).inc(use.cost)
