"""The spawned process: import what is heavy, wait for one job, do it, say how it went."""

import contextlib
import gc
import os
import signal
import sys
import time
from pathlib import Path

# Read by libraries as they load, so set before the first of them.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "true",
    # Spinning workers starve whatever shares the cores; asleep they cost next to nothing at these sizes.
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}

# Optional packages that transformers and peft import when they find them; together they take longer than all the rest,
# and plain LoRA uses none of them.
_UNUSED = (
    "bitsandbytes", "scipy", "sklearn", "pandas", "torchvision", "torchaudio", "kernels", "vllm", "datasets", "torchao",
    "deepspeed",
)  # fmt: skip

_NICENESS = 5


def main(wanted: list[str]) -> None:
    """Serve one job, then end; the parent's death ends it too. `wanted` names optional packages the job will use."""
    began = time.monotonic()
    os.environ.update(_ENVIRONMENT)
    for name in _UNUSED:
        if name not in wanted:
            sys.modules[name] = None  # type: ignore[assignment]
    # The parent decides when to stop; a signal to the whole terminal must not take the checkpoint away.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _give_way()
    gc.disable()
    from libs.runtime.child_main import ParentChannel
    from services.trainer.compute.serve import serve
    from services.trainer.domain.protocol import Warm

    channel = ParentChannel()
    gc.enable()
    gc.freeze()
    channel.send(Warm(seconds=round(time.monotonic() - began, 3)).model_dump())
    message = channel.receive(None)
    if message is None:
        return
    serve(message, channel)


def _give_way() -> None:
    """Let whoever answers people on the same cores go first, yet get a quarter of a core that both want."""
    os.nice(_NICENESS)
    # Where the kernel groups processes by session, the niceness that counts is the group's.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICENESS))


if __name__ == "__main__":
    main(sys.argv[1:])
