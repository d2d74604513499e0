"""`python -m libs.eventing plan|apply|permissions`: the one-shot topology job."""

import argparse
import asyncio
import os
import sys

import nats
from nats.errors import Error as NatsError

from libs.contracts.errors import PawlError
from libs.eventing.apply import apply, plan
from libs.eventing.permissions import authorization
from libs.eventing.topology import SERVICES

DEFAULT_URL = "nats://127.0.0.1:4222"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 done (and for `plan`: nothing to do), 1 refused, 2 cannot connect, 3 `plan` found changes."""
    parser = argparse.ArgumentParser(prog="python -m libs.eventing", description="Apply the NATS topology.")
    parser.add_argument("command", choices=("plan", "apply", "permissions"))
    parser.add_argument("--nats", default=os.environ.get("PAWL_NATS_URL", DEFAULT_URL), help="URL of the broker")
    parser.add_argument("--wait", type=float, default=30.0, help="seconds to wait for the broker")
    chosen = parser.parse_args(arguments)
    if chosen.command == "permissions":
        proofs = {name: {"user": name, "password": f"$PAWL_NATS_{name.upper()}"} for name in (*SERVICES, "topology")}
        print("# Made from the topology by `python -m libs.eventing permissions`; passwords come from the environment.")
        print(authorization({name: proofs[name] for name in SERVICES}, proofs["topology"]), end="")
        return 0
    try:
        return asyncio.run(_run(chosen.command, chosen.nats, chosen.wait))
    except PawlError as error:
        print(f"topology: {error}", file=sys.stderr)
        return 1
    except (NatsError, OSError, TimeoutError) as error:
        print(f"topology: no answer from {chosen.nats} (--nats): {error or type(error).__name__}", file=sys.stderr)
        return 2


async def _run(command: str, url: str, wait: float) -> int:
    async def silent(_: Exception) -> None:
        """The last attempt's reason is printed by the caller."""

    user = os.environ.get("PAWL_NATS_USER", "")
    proof = {"user": user, "password": os.environ.get("PAWL_NATS_PASSWORD", "")} if user else {}
    client = await asyncio.wait_for(
        nats.connect(
            url, error_cb=silent, max_reconnect_attempts=-1, reconnect_time_wait=1, connect_timeout=3, **proof
        ),
        wait,
    )
    try:
        changes = await (apply if command == "apply" else plan)(client.jetstream())
    finally:
        await client.close()
    for change in changes:
        print(change)
    print(f"{len(changes)} change{'' if len(changes) == 1 else 's'}" + (" applied" if command == "apply" else ""))
    return 3 if command == "plan" and changes else 0


if __name__ == "__main__":
    sys.exit(main())
