"""Users who read streams, one after another, until standard input ends: `python -m bench.gateway.streams`.

They begin one by one: users who all ask in one moment, again and again, are no crowd but a drum.

A process of its own, so that whoever measures beside it measures nothing of its work. Then it prints what it saw, as
JSON: streams `whole`, `failed` and `mixed` (of more than one version).
"""

import argparse
import asyncio
import json
import sys
from typing import Any

import grpc
import uvloop

from bench.gateway.stack import KEY
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2, inference_pb2_grpc

METADATA = (("authorization", f"Bearer {KEY}"),)


async def _read(stub: Any, task: str, tokens: int, after: float, ended: asyncio.Event, seen: dict[str, int]) -> None:
    await asyncio.sleep(after)
    asked = inference_pb2.GenerateStreamRequest(
        request=inference_pb2.GenerateRequest(
            model=task,
            messages=[inference_pb2.Message(role="user", content="hello")],
            sampling=inference_pb2.Sampling(max_tokens=tokens),
        )
    )
    while not ended.is_set():
        versions = set()
        try:
            async for each in stub.GenerateStream(asked, metadata=METADATA, timeout=120):
                versions.add((each.provenance.model_version, each.provenance.adapter_digest))
        except grpc.aio.AioRpcError:
            seen["failed"] += 1
            continue
        seen["whole" if len(versions) == 1 else "mixed"] += 1


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", type=int, nargs="+", required=True, help="gRPC ports of gateways")
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--streams", type=int, required=True, help="at any moment, spread over gateways and tasks")
    parser.add_argument("--tokens", type=int, required=True, help="of each stream")
    parser.add_argument("--over", type=float, required=True, help="seconds over which they begin")
    asked = parser.parse_args()
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}") for port in asked.ports]
    stubs: list[Any] = [inference_pb2_grpc.InferenceServiceStub(each) for each in channels]
    ended = asyncio.Event()
    seen = {"whole": 0, "failed": 0, "mixed": 0}
    reading = [
        asyncio.create_task(
            _read(
                stubs[number % len(stubs)],
                asked.tasks[number % len(asked.tasks)],
                asked.tokens,
                asked.over * number / asked.streams,
                ended,
                seen,
            )
        )
        for number in range(asked.streams)
    ]
    await asyncio.to_thread(sys.stdin.read)
    ended.set()
    await asyncio.gather(*reading)
    for each in channels:
        await each.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    uvloop.run(main())
