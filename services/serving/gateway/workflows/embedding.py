"""Vectors of texts, where the base of a task's version can make them."""

from collections.abc import Callable, Sequence

from libs.contracts.errors import InvalidInput, PawlError, Unavailable
from libs.contracts.routes import Arm, EngineReport
from services.serving.gateway.domain import (
    Caller,
    Choice,
    Deadline,
    Embedded,
    EngineCall,
    Limits,
    Query,
    Tables,
    TextBatch,
    pick_engine,
)
from services.serving.gateway.workflows.charging import Charging
from services.serving.gateway.workflows.plan import passing

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
        self, caller: Caller, task: str, choice: Choice, query: Query, texts: Sequence[str], deadline: Deadline
    ) -> tuple[Arm, Embedded]:
        """The arm that made them and one vector for each text; a failed engine is made up for by another one.

        Raises InvalidInput (`EMBEDDINGS_NOT_SUPPORTED`) where no engine of the version makes vectors.
        """
        self._check(texts)
        avoid: set[str] = set()
        trouble: PawlError | None = None
        while True:
            arm, engine = self._select(choice, avoid)
            if engine is None:
                raise trouble or InvalidInput(
                    f"{task} generates text: no engine makes vectors with its base",
                    reason="EMBEDDINGS_NOT_SUPPORTED",
                    field="model",
                )
            left = deadline.left(self._clock())
            if not left:
                raise trouble or Unavailable("there is no time left", reason="DEADLINE_EXCEEDED")
            wanted = TextBatch(query.request_id, tuple(texts), arm.digest, query.purpose.priority, left)
            try:
                found = await self._engines.embed(engine.address, wanted)
            except PawlError as failure:
                if not passing(failure):
                    raise
                trouble = failure
                avoid.add(engine.address)
                continue
            self._charging.embedding(caller, task, arm.version, found, engine.hourly_cost, self._clock())
            return arm, found

    def _check(self, texts: Sequence[str]) -> None:
        if not 1 <= len(texts) <= MAX_TEXTS or not all(texts):
            raise InvalidInput(f"must be 1 to {MAX_TEXTS} texts, none of them empty", field="input")
        if sum(len(each) for each in texts) > self._limits.characters:
            raise InvalidInput(f"has more than {self._limits.characters} characters", field="input")

    def _select(self, choice: Choice, avoid: set[str]) -> tuple[Arm, EngineReport | None]:
        for arm in (choice.arm, choice.fallback):
            if arm is not None:
                busy = self._engines.in_flight()
                engine = pick_engine(self._tables.engines(), arm.digest, in_flight=busy, avoid=avoid, embeds=True)
                if engine is not None:
                    return arm, engine
        return choice.arm, None
