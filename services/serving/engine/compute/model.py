"""vLLM's AsyncLLM behind a narrow door: what would kill it or make it answer wrongly cannot be said through it."""

import asyncio
import gc
import itertools
import logging
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from libs.contracts.errors import InvalidInput, PawlError, Unavailable
from libs.telemetry import get_logger
from services.serving.engine.compute.bound_children import bind_children
from services.serving.engine.compute.cpu_lora import use_grouped_products
from services.serving.engine.compute.slots import Slots
from services.serving.engine.compute.translation import lora_of, pieces_of, sampling_of
from services.serving.engine.domain import (
    AdapterRefused,
    Meter,
    Piece,
    Prompt,
    SamplingChoice,
    Vectors,
    Version,
    check_smoke,
    check_vectors,
)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How to run a base; see the settings of the same names. `threads` 0 takes half of the usable cores."""

    directory: Path
    max_loras: int = 6
    max_cpu_loras: int = 24
    max_lora_rank: int = 64
    max_model_len: int | None = None
    max_num_seqs: int = 64
    kv_cache_mib: int = 512
    gpu_memory_utilization: float = 0.9
    threads: int = 0
    enforce_eager: bool = True
    dtype: str = "auto"
    embeds: bool = False


class Model:
    """One base in vLLM. Every adapter operation is serialised; a request may only name a version added before."""

    def __init__(self, engine: Any, thread: ThreadPoolExecutor, max_loras: int, *, embeds: bool = False) -> None:
        """`embeds`: it was started to make vectors, and nothing can be generated."""
        self._engine = engine
        self._embeds = embeds
        self._slots = Slots(max_loras)
        self._meter = Meter()
        self._thread = thread
        self._operations = asyncio.Lock()
        self._requests = itertools.count(1)
        self._added: set[int] = set()
        self.max_model_len = int(engine.vllm_config.model_config.max_model_len)

    @classmethod
    async def start(cls, options: ModelOptions, scratch: Path) -> "Model":
        """Load the base; takes tens of seconds, during which the loop goes on. `scratch` holds a small launcher.

        vLLM's processes are bound to the thread that spawned them and so to this process: it keeps that thread.
        """
        _set_environment(options)
        thread = ThreadPoolExecutor(1, thread_name_prefix="vllm")
        engine = await asyncio.get_running_loop().run_in_executor(thread, _build, options, scratch)
        return cls(engine, thread, options.max_loras, embeds=options.embeds)

    @property
    def dead(self) -> bool:
        """Whether vLLM's own processes are gone: only a new process heals that."""
        return bool(self._engine.errored)

    async def add(self, version: Version) -> None:
        """Load an adapter from its directory. Raises AdapterRefused, or Unavailable when the engine is dead."""
        if not await asyncio.to_thread(Path(version.path).is_dir):
            raise AdapterRefused(f"{version.path} is gone", field="path")
        async with self._operations:
            await self._guarded(lambda: self._engine.add_lora(lora_of(version)), "load")
            self._added.add(version.number)

    async def pin(self, version: Version) -> bool:
        """Keep an adapter in its slot whatever else is loaded; only `remove` ends that.

        False while requests of others fill the slots: the next one that is free is kept for it, ask again.
        """
        if not self._slots.pin(version.number):
            return False
        try:
            async with self._operations:
                await self._guarded(lambda: self._engine.pin_lora(version.number), "pin")
        except PawlError:
            self._slots.unpin(version.number)
            raise
        return True

    async def remove(self, version: Version) -> None:
        """Take an adapter out of the engine; no request may use it any more."""
        self._added.discard(version.number)
        async with self._operations:
            await self._guarded(lambda: self._engine.remove_lora(version.number), "remove")
        self._slots.unpin(version.number)

    async def smoke(self, version: Version, prompt: Prompt) -> None:
        """Answer a short prompt with a version just added. Raises AdapterRefused when something else answers."""
        if self._embeds:
            check_vectors(await self.embed(f"smoke-{version.number}", [prompt], version))
            return
        pieces = self.generate(f"smoke-{version.number}", prompt, SamplingChoice(max_tokens=2), version)
        await check_smoke(pieces, version)

    @property
    def waiting(self) -> int:
        """Requests waiting for an adapter slot."""
        return self._slots.waiting

    @property
    def running(self) -> int:
        """Requests that vLLM works on."""
        return self._meter.running

    async def resident(self) -> set[int]:
        """Numbers of the adapters that the engine holds. Raises Unavailable when it is dead."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return set(await self._engine.list_loras())
        except EngineDeadError as failure:
            raise Unavailable("the engine is dead", reason="ENGINE_DEAD") from failure

    async def generate(
        self,
        request_id: str,
        prompt: Prompt,
        sampling: SamplingChoice,
        version: Version,
        *,
        priority: int = 0,
        with_logprobs: bool = False,
    ) -> AsyncGenerator[Piece, None]:
        """The answer of one version, piece by piece; closing the iterator aborts the request.

        Lower `priority` goes first. Raises Unavailable when the engine is dead.
        """
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        self._check_loaded(version)
        asked: dict[str, Any] = {"prompt_token_ids": list(prompt.token_ids)}
        if prompt.salt:
            asked["cache_salt"] = prompt.salt
        stream = self._engine.generate(
            asked,
            sampling_of(sampling, self.max_model_len - len(prompt.token_ids), with_logprobs=with_logprobs),
            # vLLM needs a name that nobody else uses right now; a client may send the same one twice.
            f"{request_id}#{next(self._requests)}",
            lora_request=lora_of(version) if version.number else None,
            priority=priority,
        )
        try:
            async with self._slots.use(version.number, priority), aclosing(stream):
                with self._meter.run() as share:
                    async for output in stream:
                        for piece in pieces_of(output, sampling, with_logprobs=with_logprobs):
                            yield replace(piece, engine_seconds=share.seconds)
        except EngineDeadError as failure:
            raise Unavailable("the engine is dead", reason="ENGINE_DEAD") from failure
        except (VLLMClientError, ValueError) as failure:
            # Whatever vLLM finds wrong with a request before it takes it: a schema, a bias, a length.
            raise InvalidInput(f"the engine refuses the request: {failure}", field=sampling.suspect) from failure
        except EngineGenerateError as failure:
            raise Unavailable(
                f"generation failed: {failure.__cause__ or failure}", reason="GENERATION_FAILED"
            ) from failure

    async def embed(
        self, request_id: str, prompts: Sequence[Prompt], version: Version, *, priority: int = 0
    ) -> Vectors:
        """One vector for each prompt. Raises Unavailable when the engine is dead."""
        from vllm.pooling_params import PoolingParams
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        self._check_loaded(version)
        lora = lora_of(version) if version.number else None

        async def one(prompt: Prompt) -> tuple[float, ...]:
            # What one tenant asked is not to be timed by another: nothing is read from the prefix cache.
            wanted = PoolingParams(task="embed", skip_reading_prefix_cache=True)
            asked = {"prompt_token_ids": list(prompt.token_ids)}
            name = f"{request_id}#{next(self._requests)}"
            async with self._slots.use(version.number, priority):
                stream = self._engine.encode(asked, wanted, name, lora_request=lora, priority=priority)
                outputs = [output async for output in stream]
            return tuple(float(each) for each in outputs[-1].outputs.data.tolist())

        try:
            with self._meter.run() as share:
                made = await asyncio.gather(*(one(prompt) for prompt in prompts))
                return Vectors(tuple(made), share.seconds)
        except EngineDeadError as failure:
            raise Unavailable("the engine is dead", reason="ENGINE_DEAD") from failure
        except EngineGenerateError as failure:
            why = failure.__cause__ or failure
            raise Unavailable(f"no vectors were made: {why}", reason="GENERATION_FAILED") from failure

    def _check_loaded(self, version: Version) -> None:
        # vLLM drops adapters from its memory without a word and reads them again; one that is not there kills it.
        if version.number and (version.number not in self._added or not os.access(version.path, os.R_OK)):
            raise Unavailable(f"{version.name} is not loaded", reason="VERSION_NOT_LOADED")

    async def close(self) -> None:
        """End vLLM's processes."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._engine.shutdown(timeout=1))
        self._thread.shutdown(wait=False)

    async def _guarded(self, operation: Callable[[], Any], what: str) -> None:
        try:
            done = await operation()
        except Exception as failure:
            # Process boundary: vLLM hands over whatever its worker raised, as a bare Exception.
            if self.dead:
                raise Unavailable("the engine is dead", reason="ENGINE_DEAD") from failure
            raise AdapterRefused(f"vLLM cannot {what} the adapter: {failure}", reason="ADAPTER_REFUSED") from failure
        if done is False:
            log.warning("adapter operation had no effect", operation=what)


def _set_environment(options: ModelOptions) -> None:
    # Before vLLM is imported, for it and for its children. Nothing is ever asked of a hub.
    threads = options.threads or max(1, len(os.sched_getaffinity(0)) // 2)
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CONFIGURE_LOGGING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TOKENIZERS_PARALLELISM": "false",
        # No binding to cores: others share them. Waiting threads sleep instead of spinning.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(threads),
        # Every number of tokens in a step makes kernels of its own, half a megabyte each: keep few of them.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    }.items():
        os.environ.setdefault(name, value)
    if options.enforce_eager:
        # vLLM compiles a helper at the first request for log-probabilities, and everybody waits for the compiler.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    # Inherited by vLLM's processes: they say a hundred things at INFO.
    logging.getLogger("vllm").setLevel(logging.WARNING)


def _build(options: ModelOptions, scratch: Path) -> Any:
    # A million objects are made here and stay. The collector would walk over all of them again and again, and later
    # stop every stream for as long as that takes: 0.4 s.
    gc.disable()
    try:
        config = _configured(options, scratch)
    finally:
        gc.freeze()
        gc.enable()
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_vllm_config(config, disable_log_stats=True)


def _configured(options: ModelOptions, scratch: Path) -> Any:
    # vLLM's process comes out of this one: what is imported before the fork is not imported again.
    import vllm.v1.engine.async_llm
    import vllm.v1.engine.core
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        import vllm.v1.worker.cpu_worker  # noqa: F401
    bind_children(scratch)
    arguments = AsyncEngineArgs(
        model=str(options.directory),
        tokenizer=str(options.directory),
        trust_remote_code=False,
        load_format="safetensors",
        enable_lora=True,
        max_loras=options.max_loras,
        max_cpu_loras=max(options.max_cpu_loras, options.max_loras),
        max_lora_rank=options.max_lora_rank,
        max_model_len=options.max_model_len,
        max_num_seqs=options.max_num_seqs,
        kv_cache_memory_bytes=options.kv_cache_mib * 1024**2 or None,
        gpu_memory_utilization=options.gpu_memory_utilization,
        enforce_eager=options.enforce_eager,
        dtype=options.dtype,
        runner="pooling" if options.embeds else "generate",
        scheduling_policy="priority",
        # A model may write blanks between the parts of JSON for ever, and a small one does.
        structured_outputs_config={"backend": "guidance", "disable_any_whitespace": True},
        disable_log_stats=True,
    )
    config = arguments.create_engine_config()
    if current_platform.is_cpu():
        use_grouped_products()
        # A worker in a process of its own costs three times the CPU per token: the two spin while they wait for each
        # other. vLLM asks for it to bind threads to cores, which nobody does here.
        config.parallel_config.distributed_executor_backend = "uni"
        # Making the configuration chose `spawn`; a fork starts in seconds, and no device is held yet that forbids it.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    return config
