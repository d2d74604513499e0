"""The trainer wired together: broker, database, object storage, training processes, gRPC."""

from libs.artifacts import ObjectStore
from libs.contracts.commands import TrainModel
from libs.contracts.stubs.pawl.trainer.v1.trainer_pb2_grpc import add_TrainerServiceServicer_to_server
from libs.eventing.connection import NatsLink
from libs.eventing.subscriptions import Consumers, Subscription
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from libs.runtime.grpc_server import GrpcServer
from libs.runtime.process import Lifecycle
from services.trainer.clients.door import Door
from services.trainer.clients.launcher import Launcher
from services.trainer.clients.nursery import Nursery
from services.trainer.clients.provenance import code_digest, lock_digest
from services.trainer.clients.teacher import Teacher
from services.trainer.clients.trainjob import Cluster, TrainJobs
from services.trainer.clients.workspace import Workspace
from services.trainer.handlers import TrainHandler, Wishes
from services.trainer.handlers.train import Terms
from services.trainer.rpc import SERVICE_NAME, TrainerRpc
from services.trainer.settings import TrainerSettings
from services.trainer.store import METADATA, RunStore
from services.trainer.workflows import Here, Planning, Remaking, Sweeping

_CHECKPOINT_SHARE = 0.5
"""Of the drain: what a checkpoint and its upload may take; the rest is for handing the command over."""


async def main(lifecycle: Lifecycle, settings: TrainerSettings) -> None:
    """Start everything, serve until stopped, stop in the opposite order."""
    nursery = Nursery(settings.state_dir, standby=settings.standby)
    lifecycle.on_drain(nursery.close)
    await nursery.prepare()

    await migrate(settings.database_url, "services.trainer")
    database = Database(settings.database_url, metadata=METADATA, service="trainer")
    await database.open()
    lifecycle.on_drain(database.close)

    link = NatsLink(settings.nats_url, "trainer", **settings.nats_credentials())
    lifecycle.on_drain(link.close)
    relay = Relay(database, link)
    objects = ObjectStore(
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key.get_secret_value(),
        settings.s3_bucket,
        settings.s3_region,
    )
    store = RunStore(database)
    wishes = Wishes(link)
    workspace = Workspace(settings.state_dir, objects)
    launcher = await _launcher(settings, lifecycle)
    handler = TrainHandler(
        launcher=launcher,
        store=store,
        workspace=workspace,
        nursery=nursery,
        teacher=Teacher(
            settings.state_dir / "teacher",
            {endpoint: key.get_secret_value() for endpoint, key in settings.teacher_keys.items()},
        ),
        wishes=wishes,
        terms=Terms(
            device=settings.device,
            precision=settings.precision,
            threads=settings.threads,
            memory_limit_bytes=settings.memory_limit_bytes,
            drain_seconds=settings.drain_seconds * _CHECKPOINT_SHARE,
            lock_digest=lock_digest(settings.lock_file),
            code_digest=code_digest(),
        ),
    )
    consumers = Consumers(
        link,
        [Subscription("trainer-train", TrainModel, handler, long_running=True, on_dead=handler.on_dead)],
        service="trainer",
    )
    server = GrpcServer(settings.grpc_host, settings.grpc_port, variable=settings.variable("grpc_port"))
    here = Here(
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        memory_limit_bytes=settings.memory_limit_bytes,
        lock_digest=lock_digest(settings.lock_file),
        code_digest=code_digest(),
        prices=settings.prices,
    )
    rpc = TrainerRpc(
        store,
        Planning(store, workspace, nursery, here),
        Remaking(store, workspace, nursery, here),
        Sweeping(workspace, nursery, here),
    )
    server.add(add_TrainerServiceServicer_to_server, rpc, SERVICE_NAME)
    await server.start()
    lifecycle.on_drain(server.stop)

    await link.connect(wait=True)
    await relay.start()
    lifecycle.on_drain(relay.stop)
    await wishes.start()
    lifecycle.on_drain(wishes.stop)
    await consumers.start()
    lifecycle.on_drain(consumers.stop)

    lifecycle.ready("nats", link.check)
    lifecycle.ready("consumers", consumers.check)
    lifecycle.ready("outbox", relay.check)
    lifecycle.ready("wishes", wishes.check)
    await lifecycle.wait_stopped()


async def _launcher(settings: TrainerSettings, lifecycle: Lifecycle) -> Launcher | None:
    """What starts runs, where it is not the nursery of this machine."""
    if settings.launcher == "process":
        return None
    door = Door("0.0.0.0", settings.door_port)  # pods of other machines call; each has a token of its own
    await door.start()
    lifecycle.on_drain(door.stop)
    cluster = Cluster(
        address=settings.trainjob_address,
        namespace=settings.trainjob_namespace,
        runtime=settings.trainjob_runtime,
        image=settings.trainjob_image,
        processes_per_node=settings.trainjob_processes_per_node,
        resources=settings.trainjob_resources,
    )
    return TrainJobs(cluster, door)
