"""Children that cannot outlive their parent."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from libs.contracts.errors import FailedPrecondition, InvalidInput, PawlError, Unavailable
from libs.runtime import bound
from libs.runtime.children import Child, spawn_child
from libs.runtime.tests.children_sample import crash, echo, live_forever, stubborn
from libs.runtime.tests.conftest import Start
from libs.testing.wait import eventually


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def end(child: Child) -> int:
    try:
        return await child.stop(grace=5)
    finally:
        child.close()


async def test_a_child_dies_with_a_parent_that_is_killed(start: Start) -> None:
    parent = start("parent")
    await eventually(lambda: "up" in parent.out, 30)
    child = int(parent.out[0].removeprefix("child "))
    assert alive(child)
    parent.process.kill()
    parent.process.wait()
    await eventually(lambda: not alive(child))


async def test_a_child_whose_parent_died_before_it_could_ask_ends_at_once() -> None:
    nobody = 2**22 + 1
    run = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", bound.__file__, str(nobody), "sleep", "600")
    assert await run.wait() == 128 + signal.SIGKILL


async def test_a_function_runs_in_a_child_and_messages_go_both_ways() -> None:
    child = await spawn_child(echo, "hello", 2)
    messages = child.messages()
    assert [await anext(messages), await anext(messages)] == [
        {"greeting": "hello", "number": 0},
        {"greeting": "hello", "number": 1},
    ]
    await child.send({"value": 21})
    assert await anext(messages) == {"twice": 42}
    await child.send({"stop": True})
    assert [message async for message in messages] == []
    assert await child.wait() == 0
    child.close()


async def test_a_child_that_breaks_ends_its_messages_and_has_status_1(tmp_path: Path) -> None:
    with (tmp_path / "err").open("w+b") as err:
        child = await spawn_child(crash, stderr=err)
        assert [message async for message in child.messages()] == [{"began": True}]
        assert await child.wait() == 1
    assert "ValueError: child broke" in (tmp_path / "err").read_text()
    with pytest.raises(Unavailable):
        await child.send({"value": 1})
    child.close()


async def test_stopping_is_polite_first_and_takes_the_whole_group_after_that(tmp_path: Path) -> None:
    child = await spawn_child(stubborn, str(tmp_path / "pid"))
    assert await anext(child.messages()) == {"ready": True}
    grandchild = int((tmp_path / "pid").read_text())
    assert alive(grandchild)
    assert await child.stop(grace=0.3) == -signal.SIGKILL
    await eventually(lambda: not alive(grandchild))
    child.close()

    polite = await spawn_child(live_forever)
    assert await end(polite) == -signal.SIGTERM


async def test_what_a_child_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    child = await spawn_child(["sh", "-c", f"sleep 600 & echo $! > {tmp_path / 'pid'}"])
    assert await child.wait() == 0
    child.close()
    grandchild = int((tmp_path / "pid").read_text())
    await eventually(lambda: not alive(grandchild))


async def test_a_command_runs_with_its_environment_and_directory(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+b") as out:
        script = 'echo "$GREETING $1 $PWD"; read -r line || echo "nothing on stdin"'
        child = await spawn_child(["sh", "-c", script, "sh"], 7, env={"GREETING": "hello"}, cwd=tmp_path, stdout=out)
        assert await child.wait() == 0
    child.close()
    assert (tmp_path / "out").read_text() == f"hello 7 {tmp_path}\nnothing on stdin\n"


async def test_a_command_that_does_not_exist_ends_with_127_and_says_so(tmp_path: Path) -> None:
    with (tmp_path / "err").open("w+b") as err:
        child = await spawn_child(["/no/such/program"], stderr=err)
        assert await child.wait() == 127
    child.close()
    assert "cannot run /no/such/program: No such file or directory" in (tmp_path / "err").read_text()


async def test_waiting_may_be_given_up_without_harm_to_the_child() -> None:
    child = await spawn_child(["sleep", "600"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await child.wait()
    assert child.returncode is None
    assert alive(child.pid)
    assert await end(child) == -signal.SIGTERM


async def test_a_thread_may_not_spawn_since_the_child_would_die_with_it() -> None:
    caught: list[PawlError] = []

    def other_thread() -> None:
        try:
            asyncio.run(spawn_child(["true"]))
        except FailedPrecondition as refused:
            caught.append(refused)

    thread = threading.Thread(target=other_thread)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "main thread" in str(caught[0])


@pytest.mark.parametrize("what", [lambda: None, []])
async def test_what_cannot_be_run_in_a_child_is_refused(what: object) -> None:
    with pytest.raises(InvalidInput):
        await spawn_child(what)  # type: ignore[arg-type]


async def test_arguments_that_are_not_json_are_refused() -> None:
    with pytest.raises(InvalidInput, match="JSON"):
        await spawn_child(echo, object())


async def test_a_child_inherits_nothing_but_what_it_is_given() -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, False)
    child = await spawn_child(["sh", "-c", f"test ! -e /proc/self/fd/{writing}"])
    assert await child.wait() == 0
    child.close()
    os.close(reading)
    os.close(writing)
