"""What a client of Pawl installs is enough for its half of the libraries."""

import subprocess
import sys

SERVER_ONLY = (
    "opentelemetry.sdk",
    "pydantic_settings",
    "uvloop",
    "grpc_reflection",
    "faststream",
    "sqlalchemy",
    "torch",
)


def test_channels_objects_and_traces_need_nothing_that_only_a_server_needs() -> None:
    script = (
        f"import sys\nfor name in {SERVER_ONLY!r}: sys.modules[name] = None\n"
        "import libs.artifacts, libs.runtime.grpc_client, libs.runtime.binaries, libs.telemetry as t\n"
        "with t.span('x'): print(t.current_traceparent())"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("00-")


def test_no_library_of_a_process_brings_torch() -> None:
    script = (
        "import sys\nimport libs.runtime.process, libs.runtime.grpc_server, libs.artifacts, libs.runtime.children\n"
        "print(sorted({'torch', 'transformers', 'vllm', 'polars', 'pyarrow'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stderr
