"""AsyncLLM alone: no gateway, no gRPC. `python -m bench.serving.raw BASE ADAPTER OPTIONS` takes lines of JSON.

Each is answered with one. It holds `requests`, `tokens` and `at_once`; settings are the engine's.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.serving.ground import NO_END, PROMPT
from libs.contracts.inference import Message
from services.serving.engine.compute import Model, ModelOptions, Renderer
from services.serving.engine.domain import Version


async def main() -> None:
    base, adapter, more = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    model = await Model.start(ModelOptions(directory=base, **more), Path(tempfile.mkdtemp()))
    renderer = Renderer(base, model.max_model_len)
    await model.add(Version("tuned", "tuned", "bench@tuned", 1, adapter))

    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import RequestOutputKind

    lora = LoRARequest(lora_name="bench@tuned", lora_int_id=1, lora_path=adapter)
    engine: Any = vars(model)["_engine"]

    async def one(name: str, number: int, tokens: int) -> int:
        ids = renderer.render([Message(role="user", content=PROMPT.format(number=number))]).token_ids
        sampling = SamplingParams(
            temperature=0.0, max_tokens=tokens, logit_bias=dict(NO_END), output_kind=RequestOutputKind.DELTA
        )
        seen = 0
        async for output in engine.generate({"prompt_token_ids": list(ids)}, sampling, name, lora_request=lora):
            seen += len(output.outputs[0].token_ids)
        return seen

    async def batch(asked: dict[str, int], round_: int) -> list[int]:
        gate = asyncio.Semaphore(asked["at_once"])

        async def guarded(number: int) -> int:
            async with gate:
                return await one(f"{round_}-{number}", number, asked["tokens"])

        return await asyncio.gather(*(guarded(number) for number in range(asked["requests"])))

    print("ready", flush=True)
    rounds = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked, rounds = json.loads(line), rounds + 1
        began = time.perf_counter()
        seen = await batch(asked, rounds)
        print(json.dumps({"seconds": time.perf_counter() - began, "tokens": sum(seen)}), flush=True)
    await model.close()


if __name__ == "__main__":
    asyncio.run(main())
