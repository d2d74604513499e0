"""Beyond one machine nothing changes: Daft, alone and over a Ray of two workers, merges bit for bit the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("engine", ["daft", "ray"])
def test_an_engine_beyond_one_machine_merges_the_same_rows(engine: str) -> None:
    pytest.importorskip("daft", reason="the extra scale is not installed")
    pytest.importorskip(engine, reason="the extra scale is not installed")
    # A process of its own: Daft's runner can be chosen once.
    command = [sys.executable, str(ROOT / "bench" / "near_dup" / "scale.py"), "600", engine]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| yes |" in done.stdout
