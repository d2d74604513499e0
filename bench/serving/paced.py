"""An engine that keeps a pace: every step of vLLM's worker lasts at least so long, whoever runs it.

A vLLM plugin, so that the same pace holds in our engine, in AsyncLLM alone and in vLLM's own server. The processors are
then free for what is measured, as they are where a GPU does the steps.
"""

import os
import time
from pathlib import Path
from typing import Any

SECONDS = "BENCH_STEP_SECONDS"
_NAME = "bench_paced-1.dist-info"


def declare(home: Path, seconds: float) -> None:
    """Let the vLLM of every process started from here on keep the pace; `home` holds the declaration."""
    info = home / "plugins" / _NAME
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-paced\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[vllm.general_plugins]\nbench_paced = bench.serving.paced:install\n")
    root = str(Path(__file__).parents[2])
    held = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(info.parent), root, *held])
    os.environ[SECONDS] = str(seconds)


def install() -> None:
    """Called by vLLM in each of its processes."""
    from vllm.v1.worker.gpu_worker import Worker

    seconds = float(os.environ[SECONDS])
    whole = Worker.execute_model

    def execute_model(worker: Any, scheduled: Any) -> Any:
        began = time.perf_counter()
        made = whole(worker, scheduled)
        if scheduled.total_num_scheduled_tokens:
            time.sleep(max(0.0, began + seconds - time.perf_counter()))
        return made

    Worker.execute_model = execute_model
