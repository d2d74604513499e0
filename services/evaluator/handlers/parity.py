"""The first gate: the candidate that is served is the candidate that was trained."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import ValidationError

from libs.artifacts import ObjectStore
from libs.contracts.commands import EvaluateModel
from libs.contracts.errors import DataLoss, NotFound, Transient
from libs.contracts.estimates import Verdict
from libs.contracts.events import GateResult
from libs.contracts.parity import PARITY_FILE, Parity, Said, mismatch
from libs.telemetry import get_logger

log = get_logger(__name__)

GATE, METRIC = "served-as-trained", "parity"
_AGAIN_SECONDS = 1.0


class Asked(Protocol):
    """Engines, as far as parity goes."""

    async def answers(self, digest: str, prompts: Sequence[Sequence[Mapping[str, str]]], max_tokens: int) -> list[Said]:
        """Greedy answers of a version, with token ids and log-probabilities."""


class ParityGate:
    """Has the served candidate answer the prompts that the trainer answered.

    Args:
        objects: Holds versions.
        engines: Who serves them.
        patience: Seconds to wait for an engine to serve the candidate.
    """

    def __init__(self, objects: ObjectStore, engines: Asked, *, patience: float) -> None:
        self._objects = objects
        self._engines = engines
        self._patience = patience

    async def decide(self, command: EvaluateModel) -> GateResult | None:
        """The gate's result; None for a version whose trainer recorded nothing.

        Raises Transient when the candidate cannot be asked in time: a later delivery tries again.
        """
        digest = command.candidate.digest
        recorded = await self._recorded(command.tenant, digest)
        if recorded is None:
            log.warning("version carries no parity record", version=command.candidate.version, digest=digest)
            return None
        prompts = [item.messages for item in recorded.items]
        longest = max(len(item.completion_token_ids) for item in recorded.items)
        said = await self._ask(digest, prompts, longest)
        why = mismatch(recorded, said)
        if why:
            log.error("served is not what was trained", digest=digest, reason=why)
            return GateResult(gate=GATE, verdict=Verdict.FAIL, reason=f"served is not what was trained: {why}",
                              metric=METRIC)  # fmt: skip
        tokens = sum(len(one.token_ids) for one in said)
        return GateResult(
            gate=GATE, verdict=Verdict.PASS, metric=METRIC,
            reason=f"{len(said)} prompts have the trainer's token ids and {tokens} tokens of answers are within "
            f"{recorded.bound:g} nats of it",
        )  # fmt: skip

    async def _ask(self, digest: str, prompts: Sequence[Sequence[Mapping[str, str]]], max_tokens: int) -> list[Said]:
        given_up = time.monotonic() + self._patience
        while True:
            try:
                return await self._engines.answers(digest, prompts, max_tokens)
            except Transient as error:
                if time.monotonic() > given_up:
                    raise
                log.info("parity waits", digest=digest, reason=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _recorded(self, tenant: str, digest: str) -> Parity | None:
        objects = self._objects.for_tenant(tenant)
        try:
            manifest = await objects.get_manifest(digest)
        except NotFound:
            return None
        file = manifest.files.get(PARITY_FILE)
        if file is None:
            return None
        try:
            return Parity.model_validate_json(await objects.get_bytes(file.digest))
        except ValidationError as error:
            raise DataLoss(f"the parity record of {digest} cannot be read: {error}", reason="PARITY_INVALID") from error
