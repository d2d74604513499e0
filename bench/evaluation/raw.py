"""The engine's raw batch throughput: every prompt handed to the model at once, no gateway, no gRPC, no store.

`python -m bench.evaluation.raw BASE ADAPTER ITEMS MAX_TOKENS` answers each line of its input with one line of JSON.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.evaluation.material import items
from services.serving.engine.compute import Model, ModelOptions, Renderer
from services.serving.engine.domain import SamplingChoice, Version


async def main() -> None:
    """Load the model, then run one batch for each line."""
    base, adapter, count, max_tokens = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    scratch = Path(tempfile.mkdtemp())
    model = await Model.start(ModelOptions(directory=base), scratch)
    renderer = Renderer(base, model.max_model_len)
    bare = Version("base", "", "", 0)
    tuned = Version("tuned", "tuned", "bench@tuned", 1, adapter)
    await model.add(tuned)
    prompts = [renderer.render(item.messages) for item in items(count)]
    sampling = SamplingChoice(max_tokens=max_tokens, whole=True)

    async def one(number: int, version: Version) -> int:
        tokens = 0
        async for piece in model.generate(f"{version.name}-{number}", prompts[number], sampling, version, priority=5):
            tokens += len(piece.token_ids)
        return tokens

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while await asyncio.to_thread(sys.stdin.readline):
        begun = time.perf_counter()
        tokens = await asyncio.gather(*(one(n, version) for version in (tuned, bare) for n in range(count)))
        told = {"seconds": time.perf_counter() - begun, "answers": len(tokens), "tokens": sum(tokens)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
    await model.close()


if __name__ == "__main__":
    asyncio.run(main())
