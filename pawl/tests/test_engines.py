"""Engines come and go with the bases that routes name."""

import sys
from pathlib import Path

from pawl.local.engines import RETIRE_SECONDS, Disuse
from pawl.local.layout import Layout
from pawl.local.process import ManagedProcess
from pawl.local.specs import ProcessSpec
from pawl.local.supervisor import Supervisor


def test_a_base_is_out_of_use_once_no_route_has_named_it_for_long_enough() -> None:
    disuse = Disuse()
    assert disuse.over(["a", "b"], {"a"}, 0.0) == []
    assert disuse.over(["a", "b"], {"a", "b"}, RETIRE_SECONDS - 1) == [], "named again: its time begins anew"
    assert disuse.over(["a", "b"], {"a"}, RETIRE_SECONDS) == []
    assert disuse.over(["a", "b"], {"a"}, 2 * RETIRE_SECONDS) == ["b"]
    assert disuse.over(["a", "b"], set(), 9 * RETIRE_SECONDS) == [], "nothing is known: nothing is stopped"


async def test_an_engine_that_is_retired_ends_for_good_with_what_it_kept(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / ".pawl")
    layout.prepare()
    said: list[str] = []
    supervisor = Supervisor(layout, memory_bytes=0, say=said.append)
    supervisor.state.bases["sha256:old"] = "engine-old"
    argv = (sys.executable, "-c", "import time; time.sleep(600)")
    process = ManagedProcess(ProcessSpec("engine-old", argv, {}, "http://x", "http://x", layout.log("engine-old")))
    process.start()
    supervisor.processes["engine-old"] = process
    running = process.process
    assert running is not None
    (layout.data("engine-old") / "cas").mkdir(parents=True)
    await supervisor._retire("sha256:old")
    assert not running.is_running()
    assert supervisor.processes == {}
    assert not layout.data("engine-old").exists()
    assert Supervisor(layout, memory_bytes=0, say=said.append).state.bases == {}
    assert "engine-old" in said[0]
