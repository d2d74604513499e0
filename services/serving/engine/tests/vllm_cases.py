"""What vLLM was measured to do wrong, done to it: `python -m services.serving.engine.tests.vllm_cases HOME`.

Each case notes facts in `HOME/facts.json`: of vLLM as it is, and of the door in front of it. All share one engine;
those that kill it come last, each with an engine of its own. They have a process of their own, because vLLM forks.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from libs.contracts.errors import PawlError
from libs.contracts.ids import digest_bytes
from libs.testing.models import tiny_adapter, tiny_base
from services.serving.engine.compute import Model, ModelOptions
from services.serving.engine.domain import Prompt, SamplingChoice, Version

SLOTS, MEMORY = 3, 5
LONG = Prompt(tuple(6 + number % 200 for number in range(400)))
SHORT = Prompt((1, 10, 11, 12))
Fact = dict[str, Any]


@dataclass
class Bench:
    """A model, vLLM's own engine behind it, and adapters by seed."""

    home: Path
    base: Path
    model: Model
    numbers: "count[int]"
    loads: Path

    @property
    def vllm(self) -> Any:
        return vars(self.model)["_engine"]

    def files(self, seed: int) -> Path:
        place = self.home / "adapters" / str(seed)
        return place if place.exists() else tiny_adapter(self.base, place, seed, base_digest=digest_bytes(b"base"))

    def version(self, seed: int) -> Version:
        """As the reconciler names them: by digest, under a number that nobody had."""
        digest = digest_bytes(str(seed).encode())
        return Version(digest, digest, f"task@{digest}", next(self.numbers), str(self.files(seed)))

    async def added(self, *seeds: int) -> list[Version]:
        versions = [self.version(seed) for seed in seeds]
        for version in versions:
            await self.model.add(version)
        return versions

    async def removed(self, versions: list[Version]) -> None:
        for version in versions:
            await self.model.remove(version)

    async def answer(self, version: Version, prompt: Prompt = SHORT, tokens: int = 8) -> list[int]:
        pieces = self.model.generate("case", prompt, SamplingChoice(max_tokens=tokens), version)
        return [token async for piece in pieces for token in piece.token_ids]

    async def refusal(self, work: Awaitable[object]) -> str:
        """Class of the error; empty where there was none."""
        try:
            await work
        except PawlError as failure:
            return type(failure).__name__
        return ""

    def lora(self, name: str, number: int, path: Path, **options: Any) -> Any:
        from vllm.lora.request import LoRARequest

        return LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(path), **options)

    async def raw(self, lora: Any, prompt: Prompt = SHORT, tokens: int = 8) -> tuple[list[int], int]:
        """Token ids and cached prompt tokens, past the door."""
        from vllm import SamplingParams

        sampling = SamplingParams(temperature=0.0, max_tokens=tokens)
        asked = {"prompt_token_ids": list(prompt.token_ids)}
        outputs = self.vllm.generate(asked, sampling, f"raw-{next(self.numbers)}", lora_request=lora)
        last = [output async for output in outputs][-1]
        return list(last.outputs[0].token_ids), int(last.num_cached_tokens or 0)

    def loaded(self) -> int:
        """How often weights were read so far."""
        return self.loads.stat().st_size


async def removal(bench: Bench) -> Fact:
    """1: the HTTP server's unload frees nothing."""
    first, second = await bench.added(1, 2)
    held = sorted(await bench.model.resident())
    await bench.model.remove(first)
    left = sorted(await bench.model.resident())
    refused = await bench.refusal(bench.answer(first))
    await bench.model.remove(second)
    return {"held": len(held), "left": left == [second.number], "refused": refused}


async def reading(bench: Bench) -> Fact:
    """2: `load_inplace` reads the weights at every step."""
    (version,) = await bench.added(1)
    before = bench.loaded()
    await bench.answer(version, tokens=20)
    ours = bench.loaded() - before
    number = next(bench.numbers)
    await bench.raw(bench.lora("in place", number, bench.files(1), load_inplace=True), tokens=20)
    theirs = bench.loaded() - before - ours
    await bench.vllm.remove_lora(number)
    await bench.model.remove(version)
    return {"through the door": ours, "in place": theirs}


async def cached_prefix(bench: Bench) -> Fact:
    """3: the prefix cache knows name and path, and neither number nor bytes."""
    place = bench.home / "changing"
    shutil.copytree(bench.files(1), place)
    number, again = next(bench.numbers), next(bench.numbers)
    await bench.raw(bench.lora("same name", number, place), LONG)
    await bench.vllm.remove_lora(number)
    shutil.copytree(bench.files(2), place, dirs_exist_ok=True)
    stale, taken = await bench.raw(bench.lora("same name", again, place), LONG)
    await bench.vllm.remove_lora(again)

    first, second = await bench.added(1, 2)
    one = await bench.answer(first, LONG)
    two, fresh = await bench.raw(bench.lora(second.name, second.number, Path(second.path)), LONG)
    await bench.model.remove(first)
    (back,) = await bench.added(1)
    known, kept = await bench.raw(bench.lora(back.name, back.number, Path(back.path)), LONG)
    await bench.removed([second, back])
    return {
        "stale tokens": taken,
        "stale answer is right": stale == two,
        "tokens of the other version": fresh,
        "versions differ": one != two,
        "the same version again": known == one,
        "its own tokens": kept,
    }


async def one_batch(bench: Bench) -> Fact:
    """4 and 7: versions of one task that vLLM dropped without a word, asked for in one batch."""
    seeds = range(1, MEMORY + 3)
    truth = {}
    for seed in seeds:
        (version,) = await bench.added(seed)
        truth[seed] = await bench.answer(version)
        await bench.model.remove(version)
    versions = await bench.added(*seeds)
    resident = await bench.model.resident()
    dropped = [version for version in versions if version.number not in resident]
    answers = await asyncio.gather(*(bench.answer(version) for version in versions))
    await bench.removed(versions)
    return {
        "idle ones are told": len(resident),
        "dropped": len(dropped),
        "all right": answers == list(truth.values()),
        "different": len({tuple(each) for each in answers}),
    }


async def missing_files(bench: Bench) -> Fact:
    """5: vLLM reads an adapter again that it dropped, and dies where the files are gone."""
    (version,) = await bench.added(1)
    absent = replace(bench.version(1), path=str(bench.home / "nowhere"))
    at_load = await bench.refusal(bench.model.add(absent))
    try:
        await bench.vllm.add_lora(bench.lora("nowhere", next(bench.numbers), bench.home / "nowhere"))
        only_raises = False
    except Exception:  # noqa: BLE001 - a bare one is what vLLM raises
        only_raises = not bench.model.dead
    place = Path(version.path)
    place.rename(place.with_suffix(".away"))
    at_use = await bench.refusal(bench.answer(version))
    place.with_suffix(".away").rename(place)
    lives = len(await bench.answer(version))
    await bench.model.remove(version)
    return {"at load": at_load, "past the door": only_raises, "at use": at_use, "tokens afterwards": lives}


async def pins(bench: Bench) -> Fact:
    """6: with every slot pinned one adapter more kills vLLM, whose scheduler knows of no pin."""
    versions = await bench.added(*range(1, SLOTS + 1))
    pinned = [await bench.model.pin(version) for version in versions]
    others = await bench.added(7, 8)
    answers = await asyncio.gather(*(bench.answer(version) for version in (*versions, *others)))
    kept = {version.number for version in versions[: SLOTS - 1]} <= await bench.model.resident()
    await bench.removed([*versions, *others])
    return {"pinned": pinned, "answered": sum(map(bool, answers)), "kept": kept}


async def turns(bench: Bench) -> Fact:
    """8: with the slots full, requests for other adapters overtake the one that waits."""
    busy = await bench.added(1, 2, 3)
    (late,) = await bench.added(4)
    order: list[str] = []

    async def one(name: str, version: Version, tokens: int) -> None:
        await bench.answer(version, tokens=tokens)
        order.append(name)

    asked = [asyncio.create_task(one("before", version, 40)) for version in busy for _ in range(2)]
    await asyncio.sleep(0.05)
    asked.append(asyncio.create_task(one("late", late, 4)))
    await asyncio.sleep(0)
    asked += [asyncio.create_task(one("after", version, 4)) for version in busy for _ in range(4)]
    await asyncio.gather(*asked)
    await bench.removed([*busy, late])
    return {"overtaken by": order[: order.index("late")].count("after")}


async def memory(bench: Bench) -> Fact:
    """9: memory of the host over repeated loads."""
    (child,) = psutil.Process().children(recursive=True)[:1]

    async def rounds(number: int) -> None:
        for turn in range(number):
            await bench.removed(await bench.added(1 + turn % 4))

    await rounds(40)
    before = child.memory_info().rss
    await rounds(200)
    return {"bytes a load": max(0, child.memory_info().rss - before) / 200, "left": len(await bench.model.resident())}


async def two_under_one_name(bench: Bench) -> Fact:
    """4, past the door."""
    loras = [bench.lora("one name", next(bench.numbers), bench.files(seed)) for seed in (1, 2)]
    return await _death(bench, *(bench.raw(lora, tokens=4) for lora in loras))


async def absent_at_use(bench: Bench) -> Fact:
    """5, past the door."""
    return await _death(bench, bench.raw(bench.lora("absent", next(bench.numbers), bench.home / "nowhere")))


async def every_slot_pinned(bench: Bench) -> Fact:
    """6, past the door."""
    for seed in range(1, SLOTS + 1):
        await bench.vllm.add_lora(bench.lora(f"pinned {seed}", seed, bench.files(seed)))
        await bench.vllm.pin_lora(seed)
    return await _death(bench, bench.raw(bench.lora("one more", SLOTS + 1, bench.files(SLOTS + 1))))


async def _death(bench: Bench, *work: Awaitable[object]) -> Fact:
    ended = await asyncio.gather(*work, return_exceptions=True)
    noticed = bench.model.dead
    told = await bench.refusal(bench.model.add(bench.version(1)))
    return {"ended": sorted({type(each).__name__ for each in ended}), "dead": noticed, "told": told}


SHARED = (removal, reading, cached_prefix, one_batch, missing_files, pins, turns, memory)
FATAL = (two_under_one_name, absent_at_use, every_slot_pinned)
Case = Callable[[Bench], Awaitable[Fact]]


@asynccontextmanager
async def started(home: Path) -> AsyncIterator[Bench]:
    """A model of the tiny base; its process is forked from this one, so what is counted here is counted there."""
    base, loads = home / "base", home / "loads"
    if not base.exists():
        tiny_base(base)
    loads.touch()
    options = ModelOptions(directory=base, max_loras=SLOTS, max_cpu_loras=MEMORY, max_lora_rank=16, kv_cache_mib=32)
    model = await Model.start(options, home / "run")
    bench = Bench(home, base, model, count(1), loads)
    try:
        yield bench
    finally:
        await model.close()


def _count_loads(loads: Path) -> None:
    from vllm.lora.worker_manager import WorkerLoRAManager

    load: Any = WorkerLoRAManager._load_adapter

    def counted(self: Any, lora: Any) -> Any:
        with loads.open("ab") as file:
            file.write(b".")
        return load(self, lora)

    WorkerLoRAManager._load_adapter = counted


async def main() -> None:
    home = Path(sys.argv[1])
    facts: dict[str, Fact] = {}
    _count_loads(home / "loads")
    async with started(home) as bench:
        for case in (*SHARED, FATAL[0]):
            facts[case.__name__] = await case(bench)
    for case in FATAL[1:]:
        async with started(home) as bench:
            facts[case.__name__] = await case(bench)
    (home / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    asyncio.run(main())
