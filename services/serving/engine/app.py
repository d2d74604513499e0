"""Wiring of the engine: base, model, routes, report, gRPC."""

import asyncio
from functools import partial
from pathlib import Path

from libs.artifacts import ObjectStore
from libs.contracts.errors import Transient
from libs.contracts.inference import Message
from libs.contracts.routes import Route
from libs.contracts.subjects import ROUTES
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState
from libs.runtime.grpc_server import GrpcServer
from libs.runtime.process import Lifecycle
from libs.telemetry import get_logger
from services.serving.engine.clients import BaseChoice, OutsideModel
from services.serving.engine.compute import Model, ModelOptions, Renderer, inspect_adapter, tensor_shapes
from services.serving.engine.domain import ColdBudget, Residency
from services.serving.engine.handlers import Beat, Reconciler, follow
from services.serving.engine.rpc import EngineServicer, register
from services.serving.engine.settings import EngineSettings
from services.serving.engine.store import Shelf

log = get_logger(__name__)

_SMOKE = "ping"
_PING = Message(role="user", content=_SMOKE)
_WATCH_SECONDS = 0.5
_RETRY_SECONDS = 2.0


async def serve(settings: EngineSettings, lifecycle: Lifecycle) -> None:
    """Run one engine until it is told to stop, or until vLLM dies under it."""
    objects = ObjectStore(
        settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key, settings.s3_bucket, settings.s3_region
    )
    shelf = Shelf(settings.state_dir / "cas", objects)
    choice = _choice(settings)
    if choice is not None:
        settings = settings.model_copy(update={"base_digest": await choice.base()})
    base = await _base(shelf, settings)
    log.info("base on disk", digest=settings.base_digest)

    # vLLM forks: no connection and no server may be open yet.
    model = await _model(settings, base, lifecycle)
    lifecycle.on_drain(model.close, "model")
    renderer = await asyncio.to_thread(partial(Renderer, base, model.max_model_len, chats=not settings.embeds))
    residency = Residency(settings.base_digest)
    shapes = await asyncio.to_thread(tensor_shapes, base)

    link = NatsLink(settings.nats_url, "engine", **settings.nats_credentials())
    await link.connect(wait=False)
    lifecycle.on_drain(link.close, "nats")
    routes: DesiredState[Route] = DesiredState(
        link,
        ROUTES,
        Route,
        settings.state_dir / "routes.json",
        on_change=lambda key, route: changed(key, route),  # noqa: PLW0108 - defined below
    )
    reconciler = Reconciler(
        base_digest=settings.base_digest,
        routes=lambda: routes.values.values(),  # noqa: PLW0108 - the mapping is replaced
        host=model,
        shelf=shelf,
        residency=residency,
        inspect=partial(
            inspect_adapter,
            base=shapes,
            base_digest=settings.base_digest,
            tokenizer_digest=renderer.tokenizer_digest,
            template_digest=renderer.template_digest,
            max_rank=settings.max_lora_rank,
        ),
        smoke_prompt=renderer.plain(_SMOKE) if settings.embeds else renderer.render([_PING]),
        max_loras=settings.max_loras,
        max_adapters=settings.max_cpu_loras,
        retire_after=settings.retire_after,
        budget=ColdBudget(settings.cold_loads_per_minute),
    )
    changed = follow(routes, reconciler)
    await routes.start()
    lifecycle.on_drain(routes.stop, "routes")

    server = GrpcServer(settings.grpc_host, settings.grpc_port, variable=settings.variable("grpc_port"))
    servicer = EngineServicer(
        engine_id=settings.id,
        base_digest=settings.base_digest,
        model=model,
        embedder=model if settings.embeds and isinstance(model, Model) else None,
        renderer=renderer,
        residency=residency,
        warm=reconciler.warm,
        coalesce_seconds=settings.coalesce_seconds,
        default_max_tokens=settings.default_max_tokens,
    )
    register(server, servicer)
    await server.start()
    lifecycle.on_drain(partial(server.stop, settings.drain_seconds / 2), "grpc")

    beat = Beat(
        link=link,
        engine_id=settings.id,
        address=settings.advertise_address or server.address,
        base_digest=settings.base_digest,
        tokenizer_digest=renderer.tokenizer_digest,
        template_digest=renderer.template_digest,
        max_adapters=settings.max_cpu_loras,
        max_loras=settings.max_loras,
        max_model_len=model.max_model_len,
        hourly_cost=settings.hourly_cost,
        embeds=settings.embeds,
        residency=residency,
        waiting=lambda: model.waiting,
        changed=reconciler.reported,
        seconds=settings.beat_seconds,
    )
    lifecycle.on_drain(beat.withdraw, "report")
    lifecycle.ready("model", lambda: "vLLM is dead" if model.dead else None)
    lifecycle.ready("routes", lambda: None if reconciler.settled else "the routes are not followed yet")
    lifecycle.spawn(reconciler.run(), "reconciler")
    lifecycle.spawn(beat.run(), "beat")
    lifecycle.spawn(_watch(model, lifecycle), "watch")
    if choice is not None and settings.retire_base_after:
        lifecycle.spawn(_leave(choice, settings, routes, residency, lifecycle), "disuse")
    await lifecycle.wait_stopped()


def _choice(settings: EngineSettings) -> BaseChoice | None:
    if settings.base_digest != "auto":
        return None
    return BaseChoice(
        link=NatsLink(settings.nats_url, "engine", **settings.nats_credentials()),
        engine_id=settings.id,
        address=settings.advertise_address or f"{settings.grpc_host}:{settings.grpc_port}",
        tenant=settings.tenant,
        memory=settings.state_dir / "base.json",
    )


async def _leave(
    choice: BaseChoice,
    settings: EngineSettings,
    routes: DesiredState[Route],
    residency: Residency,
    lifecycle: Lifecycle,
) -> None:
    def named() -> bool | None:
        if not routes.live or not routes.values:
            return None  # nothing is known: no reason to go
        arms = (arm for route in routes.values.values() for arm in route.arms)
        return bool(residency.in_flight) or any(arm.base_digest == settings.base_digest for arm in arms)

    await choice.left_behind(named, settings.retire_base_after)
    lifecycle.stop(f"no route names its base {settings.base_digest[:19]} any more")


async def _model(settings: EngineSettings, base: Path, lifecycle: Lifecycle) -> Model | OutsideModel:
    if not settings.outside_url:
        return await Model.start(_options(settings, base), settings.state_dir / "run")
    key, priorities = settings.outside_key.get_secret_value(), settings.outside_priorities
    outside = await OutsideModel.start(settings.outside_url, key, priorities=priorities)
    lifecycle.spawn(outside.watch(), "outside")
    return outside


async def _base(shelf: Shelf, settings: EngineSettings) -> Path:
    while True:
        try:
            return await shelf.base(settings.base_digest, settings.tenant)
        except Transient as failure:
            log.warning("base not fetched yet", digest=settings.base_digest, why=str(failure))
            await asyncio.sleep(_RETRY_SECONDS)


async def _watch(model: Model | OutsideModel, lifecycle: Lifecycle) -> None:
    while not model.dead:  # noqa: ASYNC110 - vLLM tells nobody, it has to be asked
        await asyncio.sleep(_WATCH_SECONDS)
    # Requests in flight have failed already; the supervisor's new process is the cure.
    lifecycle.fail("vLLM is dead")


def _options(settings: EngineSettings, base: Path) -> ModelOptions:
    return ModelOptions(
        directory=base,
        max_loras=settings.max_loras,
        max_cpu_loras=settings.max_cpu_loras,
        max_lora_rank=settings.max_lora_rank,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        kv_cache_mib=settings.kv_cache_mib,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        threads=settings.threads,
        enforce_eager=settings.enforce_eager,
        dtype=settings.dtype,
        embeds=settings.embeds,
    )
