"""`python -m triage.demo [--keep]`: exit status 0 only if everything that the demo promises happened."""

import argparse
import asyncio
import sys
from pathlib import Path

from rich.console import Console

from libs.contracts.errors import PawlError
from triage.demo.memory import watched
from triage.demo.report import write
from triage.demo.stack import Stack
from triage.demo.story import Story, Unkept


def main() -> int:
    """Run the story, write the report, take the stack down unless told to keep it."""
    parser = argparse.ArgumentParser(prog="python -m triage.demo", description="Turn the loop once, for real.")
    parser.add_argument("--keep", action="store_true", help="leave the stack up at the end")
    parser.add_argument("--dir", type=Path, default=Path(".pawl"), help="directory of the stack")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    stack = Stack(chosen.dir.absolute(), console)
    story = Story(stack, console, seed=chosen.seed)
    status = 0
    try:
        stack.prepare()
        with watched(stack.directory, story.ledger.memory):
            asyncio.run(story.tell())
    except (PawlError, Unkept) as error:
        console.print(f"[bold red]the demo failed:[/] {error}")
        story.ledger.failure = str(error)
        status = 1
    except KeyboardInterrupt:
        story.ledger.failure = "interrupted"
        status = 130
    try:
        if story.ledger.stages:
            for path in write(story.ledger, stack.directory / "demo"):
                console.print(f"  {path}")
    finally:
        if chosen.keep:
            console.print("the stack stays up: `pawl status` says where, `pawl down` stops it")
        else:
            stack.down()
    return status


if __name__ == "__main__":
    sys.exit(main())
