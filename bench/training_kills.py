"""kill -9 at random points of a run: `python -m bench training_kills` compares the adapter with an unbroken run's.

The training process is started as the service starts it, killed, and started again from the newest whole checkpoint,
as often as points are asked for. The times are drawn by seed over the length of the unbroken run, loading included.
"""

import argparse
import asyncio
import hashlib
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.training.rows import BASE, DIGEST, RESULTS, quiet, write_dataset

FILES = ("adapter_model.safetensors", "adapter_config.json", "parity.json", "pawl.json", "README.md")


async def attempt(home: Path, dataset: Path, name: str, steps: int, kill_after: float | None) -> bool:
    """One attempt; True when it ended by itself."""
    from libs.contracts.task import recipe_of
    from libs.runtime.children import spawn_child
    from services.trainer.clients.workspace import newest_verified
    from services.trainer.domain.protocol import Job, said

    workspace = home / name
    newest = newest_verified(workspace / "checkpoints")
    recipe = recipe_of(
        learning_rate=3e-3, batch_size=16, max_length=384, max_steps=steps, epochs=99, checkpoint_steps=3, dropout=0.05,
        validation={"every_steps": 4, "patience": 50},
    )  # fmt: skip
    job = Job(
        run_id="kills", base=str(BASE), base_digest=DIGEST, dataset=str(dataset), dataset_digest=DIGEST,
        workspace=str(workspace), resume_from=str(newest[1]) if newest else None, recipe=recipe,
        system="Triage the ticket.",
    )  # fmt: skip
    with (home / "log").open("ab") as log:
        child = await spawn_child([sys.executable, "-m", "services.trainer.compute"], stdout=log, stderr=log)
    finished = asyncio.Event()

    async def listen() -> None:
        await child.send(job.model_dump(mode="json"))
        async for message in child.messages():
            word = said.validate_python(message)
            if word.kind == "failed":
                raise SystemExit(f"training failed: {word.message}")
            if word.kind == "finished":
                finished.set()

    listening = asyncio.create_task(listen())
    await asyncio.wait({listening}, timeout=kill_after)
    child.kill()
    await child.wait()
    await listening
    child.close()
    return finished.is_set()


def digest(workspace: Path) -> str:
    """Of every file of the adapter."""
    found = hashlib.sha256()
    for name in FILES:
        found.update((workspace / "adapter" / name).read_bytes())
    return found.hexdigest()


async def run(points: int, steps: int, seed: int) -> str:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        dataset = write_dataset(home / "data", 300, held_out=32)
        began = time.monotonic()
        if not await attempt(home, dataset, "whole", steps, None):
            raise SystemExit("the unbroken run did not end")
        length = time.monotonic() - began
        whole = digest(home / "whole")
        draw = random.Random(seed)
        done, runs, same, kills = 0, 0, 0, 0
        while done < points:
            runs += 1
            while not await attempt(home, dataset, f"run-{runs}", steps, draw.uniform(0.05, 1.0) * length):
                kills += 1
                done += 1
                if done >= points:
                    await attempt(home, dataset, f"run-{runs}", steps, None)
                    break
            same += digest(home / f"run-{runs}") == whole
            print(f"{done} kills, {same} of {runs} runs identical", flush=True)
    verdict = "identical" if same == runs else "DIFFERENT"
    return (
        f"{kills} kills over {runs} runs of {steps} steps (unbroken: {length:.0f} s), dropout, validation and best "
        f"weights on: {same} of {runs} adapters **{verdict}** to the unbroken run's, every file of the tree compared."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    quiet()
    said = asyncio.run(run(options.points, options.steps, options.seed))
    command = f"`python -m bench.training_kills --points {options.points} --steps {options.steps}`"
    text = (
        f"# kill -9 at random points of a run\n\n{command}, {platform.machine()}, {os.cpu_count()} cores.\n\n{said}\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_kills.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
