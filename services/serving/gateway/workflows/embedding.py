"""Vectors of texts, where the base of a task's version can make them."""

from collections.abc import Callable, Sequence

from libs.contracts.errors import InvalidInput
from services.serving.gateway.domain import (
    Caller,
    Deadline,
    Embedded,
    EngineCall,
    Limits,
    Tables,
    choose,
    parse_model,
    pick_engine,
    unit_of,
)
from services.serving.gateway.workflows.charging import Charging

MAX_TEXTS = 256


class Embedding:
    """Asks the engines that make vectors; a base that generates only is refused by name."""

    def __init__(
        self,
        *,
        tables: Tables,
        engines: EngineCall,
        charging: Charging,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._tables = tables
        self._engines = engines
        self._charging = charging
        self._limits = limits
        self._clock = clock

    async def embed(
        self, caller: Caller, model: str, texts: Sequence[str], user: str, request_id: str, deadline: Deadline
    ) -> tuple[str, Embedded]:
        """The version's digest and one vector for each text. Counts against the key's quotas as a prompt does.

        Raises InvalidInput (`EMBEDDINGS_NOT_SUPPORTED`) where no engine of the version makes vectors.
        """
        if not 1 <= len(texts) <= MAX_TEXTS or not all(texts):
            raise InvalidInput(f"must be 1 to {MAX_TEXTS} texts, none of them empty", field="input")
        if sum(len(each) for each in texts) > self._limits.characters:
            raise InvalidInput(f"has more than {self._limits.characters} characters", field="input")
        target = parse_model(model)
        caller.entitled(target.task)
        route = self._tables.route(caller.tenant, target.task)
        arm = choose(route, target, unit_of(caller.tenant, user, request_id), caller.roles).arm
        busy = self._engines.in_flight()
        engine = pick_engine(self._tables.engines(), arm.digest, in_flight=busy, embeds=True)
        if engine is None:
            raise InvalidInput(
                f"{target.task} generates text: its base has no embeddings",
                reason="EMBEDDINGS_NOT_SUPPORTED",
                field="model",
            )
        with self._charging.quotas.admit(caller, self._clock()):
            found = await self._engines.embed(engine.address, arm.digest, texts, deadline.left(self._clock()))
        self._charging.embedding(caller, route.task, arm.version, found.prompt_tokens, self._clock())
        return arm.digest, found
