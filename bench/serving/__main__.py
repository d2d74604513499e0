"""`python -m bench serving` or `python -m bench.serving NAME...`: serving before a real engine, one result a name.

`--base DIRECTORY` takes another base (on a GPU, a real one); `--paced 0.05` makes each step of vLLM last so long, here
and in what it is compared with, as if a GPU did it; `gpu` is for a machine that has one. Figures go to
`bench/results/serving_NAME.md`.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from pathlib import Path

from bench.serving import adapters, failures, gpu, hotload, latency, paced, swaps, throughput
from bench.training.shapes import SHAPES

ROOT = Path(__file__).parents[2]
PARTS = {
    "throughput": ("Tokens a second through the gateway", throughput.measure),
    "latency": ("Latency beside vLLM's own OpenAI server", latency.measure),
    "adapters": ("Many adapters over one base", adapters.measure),
    "hotload": ("Loading while others decode", hotload.measure),
    "swaps": ("The same prompt after a swap", swaps.measure),
    "kill": ("An engine killed under load", failures.kill),
    "gpu": ("Serving on a GPU", gpu.measure),
    "outage": ("Broker and object storage away", failures.outage),
}


async def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument("--base", type=Path, default=ROOT / "examples" / "support-triage" / "base")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second, beside vLLM's server")
    parser.add_argument("--paced", type=float, default=0.0, help="seconds that a step lasts at least, on both sides")
    parser.add_argument("--shape", default="3b", choices=sorted(SHAPES), help="of the base that `gpu` serves")
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--outage", type=float, default=60.0, help="seconds")
    given = parser.parse_args()
    for name in given.names or [each for each in PARTS if each != "gpu"]:
        title, measure = PARTS[name]
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as home:
            if given.paced:
                paced.declare(Path(home), given.paced)
            told = await measure(Path(home), given)
        command = " ".join(["python -m bench.serving", name, *(each for each in sys.argv[1:] if each not in PARTS)])
        cores = len(os.sched_getaffinity(0))
        text = (
            f"# {title}\n\n`{command}` on {platform.machine()}, {cores} cores, load average {load:.1f} when it began; "
            f"everything shares them.\n\n{told}\n"
        )
        print(text, flush=True)
        kind = f"{name}_paced" if given.paced else name
        (ROOT / "bench" / "results" / f"serving_{kind}.md").write_text(text)


if __name__ == "__main__":
    asyncio.run(main())
