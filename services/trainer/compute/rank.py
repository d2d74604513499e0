"""`python -m services.trainer.compute.rank`: a further process of a run; it says nothing and saves nothing."""

import sys
from collections.abc import Mapping
from typing import Any

from services.trainer.compute.job import run_job
from services.trainer.compute.ranks import told_job


class _Silent:
    """A channel to nobody; only the reason of a failure is kept, in the log."""

    def __init__(self) -> None:
        self.failed = False

    def send(self, message: Mapping[str, Any]) -> None:
        """Keep to oneself."""
        if message.get("kind") == "failed":
            self.failed = True
            sys.stderr.write(f"{message['reason']}: {message['message']}\n")

    def receive(self, timeout: float | None = 0.0) -> dict[str, Any] | None:  # noqa: ARG002 - as the channel has it
        """Hear nothing."""
        return None


def main() -> int:
    """Take part in the job; status 1 when that failed."""
    channel = _Silent()
    run_job(told_job(), channel)
    return int(channel.failed)


if __name__ == "__main__":
    sys.exit(main())
