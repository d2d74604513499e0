"""Generates the gRPC stubs under `libs/contracts/stubs` from `proto/`: `python -m libs.contracts.generate`."""

import contextlib
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
STUBS = ROOT / "libs" / "contracts" / "stubs"


def generate(target: Path = STUBS) -> list[Path]:
    """Write stubs for every proto file below `target`; returns the files written."""
    from grpc_tools import protoc  # a development tool, absent from every image

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    sources = sorted(str(path) for path in PROTO.rglob("*.proto"))
    include = Path(protoc.__file__).parent / "_proto"
    out = f"{target}"
    plugins = [f"--plugin={Path(sys.executable).parent / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    flags = [*plugins, f"--python_out={out}", f"--grpc_python_out={out}", f"--mypy_out={out}", f"--mypy_grpc_out={out}"]
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{include}", *flags, *sources]) != 0:
        sys.exit(1)
    # the proto package is `pawl`, and so is the package a person installs: the stubs live under their own roof
    written = sorted(path for path in target.rglob("*.py*") if path.is_file())
    for path in written:
        text = path.read_text()
        text = re.sub(r"\bfrom pawl\.(\w+)\.v1 import", r"from libs.contracts.stubs.pawl.\1.v1 import", text)
        text = re.sub(r"^import pawl\.", "import libs.contracts.stubs.pawl.", text, flags=re.MULTILINE)
        text = re.sub(r"(?<![\w.\"'/])pawl\.(\w+)\.v1\.(\w+_pb2)", r"libs.contracts.stubs.pawl.\1.v1.\2", text)
        path.write_text(text)
    for directory in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        (directory / "__init__.py").write_text('"""Generated from proto/; do not edit."""\n')
    return written


def drift() -> list[str]:
    """Names of stubs that differ from what `proto/` generates now."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "stubs"
        with contextlib.redirect_stderr(None):
            generate(target)
        fresh = {path.relative_to(target): path.read_bytes() for path in target.rglob("*.py*") if path.is_file()}
    kept = {path.relative_to(STUBS): path.read_bytes() for path in STUBS.rglob("*") if path.suffix in (".py", ".pyi")}
    return sorted(str(name) for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))


if __name__ == "__main__":
    if "--check" in sys.argv:
        stale = drift()
        sys.exit(f"stale stubs, run `make proto`: {', '.join(stale)}" if stale else 0)
    generate()
