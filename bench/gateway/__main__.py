"""`python -m bench gateway`: what the gateway adds to an instant engine, and how fast a rollback reaches four of them.

`--litellm PYTHON` names a python that has LiteLLM's proxy, to measure it beside ours:
`python -m venv V && V/bin/pip install 'litellm[proxy]'`, then `--litellm V/bin/python`.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import uvloop

from bench.gateway import overhead, switching

RESULTS = Path(__file__).parents[1] / "results" / "gateway.md"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, nargs="+", default=[50.0, 500.0], help="requests a second, one or more")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--litellm", default="", help="a python that has LiteLLM's proxy")
    parser.add_argument("--gateways", type=int, default=4)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--pace", type=float, nargs="+", default=[0.2, 0.025], help="seconds between tokens")
    parser.add_argument("--rollbacks", type=int, default=25)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as home:
        rows = await overhead.measure(Path(home) / "overhead", asked.rate, asked.seconds, asked.litellm)
        first = overhead.table(rows)
        print(first, flush=True)
        outcomes = [
            await switching.measure(
                Path(home) / f"switching-{pace}", asked.gateways, asked.streams, asked.rollbacks, pace
            )
            for pace in asked.pace
        ]
        second = switching.table(outcomes, asked.gateways, asked.streams)
        print(second, flush=True)
    command = " ".join(["python -m bench.gateway", *sys.argv[1:]])
    cores = len(os.sched_getaffinity(0))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        f"# Gateway\n\n`{command}` on {cores} cores, load average {load:.1f} when it began. For the first "
        f"table the gateway has one core to itself; engine, broker and load generator share the rest.\n\n"
        f"{first}\n\n{second}\n"
    )


if __name__ == "__main__":
    uvloop.run(main())
