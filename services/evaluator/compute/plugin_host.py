"""One metric of a package, in a process of its own: `python -m services.evaluator.compute.plugin_host NAME OPTIONS`.

The first line it tells is {"signature": ...}, or {"error": why it cannot be made}; then for each line [answer, right
answer, question] of its input {"score": ...} or {"error": ...}. What the metric prints goes to standard error.
"""

import json
import os
import sys
from importlib.metadata import entry_points
from typing import Any, TextIO

GROUP = "pawl.metrics"


def main(name: str, options: str) -> int:
    """Score line by line until the input ends."""
    # What a metric prints must not be taken for a score.
    told = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    try:
        scorer = next(iter(entry_points(group=GROUP, name=name))).load()(json.loads(options))
    except Exception as error:  # noqa: BLE001 - what it raises is told to whoever asked
        return _tell(told, error=repr(error))
    _tell(told, signature=getattr(scorer, "signature", None))
    for line in sys.stdin:
        try:
            _tell(told, score=float(scorer(*json.loads(line))))
        except Exception as error:  # noqa: BLE001 - costs this one score
            _tell(told, error=repr(error))
    return 0


def _tell(told: TextIO, **what: Any) -> int:
    told.write(f"{json.dumps(what, default=str)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
