"""The life of a process, seen from outside."""

import signal
import socket

import pytest

from libs.runtime.tests.conftest import Start
from libs.testing.wait import eventually


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_last_added_first_and_exits_0(start: Start, number: signal.Signals) -> None:
    sample = start("last words")
    await eventually(lambda: "up" in sample.out, 30)
    sample.process.send_signal(number)
    assert sample.wait() == 0
    assert sample.out == ["up", "last words", "drained third", "drained second", "drained first"]
    assert [line["event"] for line in sample.logged] == ["started", "stopping", "stopped"]


async def test_a_crashed_supervised_task_ends_the_process_with_1_a_line_and_a_drain(start: Start) -> None:
    sample = start("crash")
    assert sample.wait() == 1
    (crashed,) = [line for line in sample.logged if line["event"] == "task crashed"]
    assert (crashed["level"], crashed["fields"]["task"]) == ("ERROR", "relay")
    assert crashed["error"]["type"] == "ValueError"
    assert "hunter2" not in sample.err
    assert sample.out[-1] == "drained first"


def test_a_fault_that_only_a_restart_heals_drains_and_exits_1(start: Start) -> None:
    sample = start("fail")
    assert sample.wait() == 1
    assert "the broker closed the connection" in sample.err
    assert sample.out[-1] == "drained first"


def test_a_one_shot_job_drains_and_exits_0_when_it_returns(start: Start) -> None:
    sample = start("returns")
    assert sample.wait() == 0
    assert sample.out == ["drained third", "drained second", "drained first"]


def test_a_permanent_error_at_the_start_is_one_line_and_exit_2(start: Start) -> None:
    sample = start("permanent")
    assert sample.wait() == 2
    (line,) = [line for line in sample.err.splitlines() if line.startswith("error: ")]
    assert "PAWL_SAMPLE_STATE_DIR: another replica holds the database" in line
    assert "Traceback" not in sample.err


def test_a_transient_error_at_the_start_exits_1_so_that_a_supervisor_tries_again(start: Start) -> None:
    sample = start("transient")
    assert sample.wait() == 1
    assert any(line["event"] == "process crashed" for line in sample.logged)


async def test_a_process_that_is_still_starting_can_be_stopped(start: Start) -> None:
    sample = start("startup")
    await eventually(lambda: "waiting" in sample.out, 30)
    assert sample.get("/readyz")[0] == 503
    assert "starting" in sample.get("/readyz")[1]
    assert sample.get("/livez")[0] == 200
    sample.process.terminate()
    assert sample.wait() == 0


async def test_a_drain_action_that_fails_or_hangs_does_not_keep_the_others_from_running(start: Start) -> None:
    failing = start("failing drain")
    await eventually(lambda: "up" in failing.out, 30)
    failing.process.terminate()
    assert failing.wait() == 1
    assert failing.out[-1] == "drained first"

    blocked = start("blocked drain", PAWL_DRAIN_SECONDS="0.5")
    await eventually(lambda: "up" in blocked.out, 30)
    blocked.process.terminate()
    assert blocked.wait() == 1
    assert "drain action took too long" in blocked.err


async def test_a_thread_that_never_ends_does_not_hold_the_exit(start: Start) -> None:
    sample = start("stuck thread", PAWL_DRAIN_SECONDS="0.2")
    await eventually(lambda: "up" in sample.out, 30)
    sample.process.terminate()
    assert sample.wait(20) == 1
    assert "ending hard" in sample.err


async def test_a_second_signal_ends_at_once(start: Start) -> None:
    sample = start("blocked drain", PAWL_DRAIN_SECONDS="60")
    await eventually(lambda: "up" in sample.out, 30)
    sample.process.terminate()
    await eventually(lambda: "stopping" in sample.err)
    sample.process.terminate()
    assert sample.wait() == 128 + signal.SIGTERM


async def test_readiness_names_the_failing_checks_and_their_reasons(start: Start) -> None:
    sample = start("not ready")
    await eventually(lambda: "up" in sample.out, 30)
    status, body = sample.get("/readyz")
    assert status == 503
    assert '"nats": "not connected"' in body
    assert '"broken": "ZeroDivisionError' in body
    assert "store" not in body
    assert sample.get("/livez")[0] == 200


async def test_a_healthy_process_is_alive_ready_and_measured(start: Start) -> None:
    sample = start("healthy")
    await eventually(lambda: "up" in sample.out, 30)
    await eventually(lambda: sample.get("/readyz")[0] == 200)
    assert sample.get("/livez")[0] == 200
    status, metrics = sample.get("/metrics")
    assert status == 200
    assert "process_cpu_seconds_total" in metrics
    assert sample.get("/secrets")[0] == 404


async def test_a_stalled_loop_fails_the_liveness_probe_and_says_where_it_stands(start: Start) -> None:
    sample = start("stall")
    await eventually(lambda: "up" in sample.out, 30)
    await eventually(lambda: sample.get("/livez")[0] == 503, 40, every=1)
    assert "the event loop has not run for" in sample.get("/livez")[1]
    assert "did not answer" in sample.get("/readyz")[1]
    (stalled,) = [line for line in sample.logged if line["event"] == "event loop stalled"]
    assert "call_later" in stalled["fields"]["stack"] or "runner.run" in stalled["fields"]["stack"]


@pytest.mark.parametrize(
    ("mode", "variable"), [("healthy", "PAWL_SAMPLE_HEALTH_PORT"), ("grpc", "PAWL_SAMPLE_GRPC_PORT")]
)
def test_a_taken_port_is_one_line_with_port_and_variable_and_exit_2(start: Start, mode: str, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sample = start(mode, **{variable: str(port)})
        assert sample.wait() == 2
    (line,) = [line for line in sample.err.splitlines() if line.startswith("error: ")]
    assert f"{variable}: cannot listen on 127.0.0.1:{port}" in line
    assert "Traceback" not in sample.err


async def test_two_servers_never_share_a_port_without_a_word(start: Start) -> None:
    first = start("grpc", PAWL_SAMPLE_GRPC_PORT="0")
    await eventually(lambda: "up" in first.out, 30)
    listening = _listening_ports(first.process.pid) - {first.health_port}
    second = start("grpc", PAWL_SAMPLE_GRPC_PORT=str(listening.pop()))
    assert second.wait() == 2


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"PAWL_SAMPLE_HEALTH_PORT": ""}, "PAWL_SAMPLE_HEALTH_PORT is not set (nor PAWL_HEALTH_PORT)"),
        ({"PAWL_SAMPLE_HEALTH_PORT": "many"}, "PAWL_SAMPLE_HEALTH_PORT: input should be a valid integer"),
        ({"PAWL_SAMPLE_HEALTH_PORT": "70000"}, "PAWL_SAMPLE_HEALTH_PORT: input should be less than or equal to 65535"),
        ({"PAWL_LOG_LEVEL": "LOUD"}, "PAWL_LOG_LEVEL: must be DEBUG, INFO"),
        ({"PAWL_SAMPLE_LOG_LEVEL": "LOUD"}, "PAWL_SAMPLE_LOG_LEVEL: must be DEBUG, INFO"),
        ({"PAWL_SAMPLE_WEIGHTS": "{"}, "PAWL_SAMPLE_WEIGHTS: is not valid JSON"),
        ({"PAWL_OTLP_ENDPOINT": "collector"}, "PAWL_OTLP_ENDPOINT: must look like http://... or https://..."),
    ],
)  # fmt: skip
def test_a_bad_or_missing_setting_is_one_line_naming_the_variable_and_exit_2(
    start: Start, environment: dict[str, str], says: str
) -> None:
    sample = start("healthy", **environment)
    assert sample.wait() == 2
    (line,) = sample.err.splitlines()
    assert line.startswith(f"error: {says}")


def test_a_state_directory_that_cannot_be_made_is_named(start: Start) -> None:
    sample = start("healthy", PAWL_STATE_DIR="/proc/nowhere")
    assert sample.wait() == 2
    assert "PAWL_SAMPLE_STATE_DIR" in sample.err


async def test_a_misspelt_setting_is_warned_about_with_the_nearest_one(start: Start) -> None:
    sample = start("healthy", PAWL_SAMPLE_LOG_LEVLE="DEBUG", PAWL_SAMPLE_SERVICE_HOST="10.0.0.1")
    await eventually(lambda: "up" in sample.out, 30)
    (warned,) = [line for line in sample.logged if line["event"] == "unknown setting"]
    assert warned["fields"] == {"variable": "PAWL_SAMPLE_LOG_LEVLE", "nearest": "PAWL_SAMPLE_LOG_LEVEL"}


def test_no_value_of_a_setting_is_told_when_it_is_wrong(start: Start) -> None:
    sample = start("full", PAWL_NATS_URL="hunter2", PAWL_S3_SECRET_KEY="hunter2", PAWL_SAMPLE_GRPC_PORT="hunter2")
    assert sample.wait() == 2
    assert "hunter2" not in sample.err
    assert "PAWL_NATS_URL: must look like nats://... or tls://..." in sample.err
    assert "PAWL_SAMPLE_S3_ENDPOINT is not set (nor PAWL_S3_ENDPOINT)" in sample.err


def _listening_ports(pid: int) -> set[int]:
    from pathlib import Path

    inodes = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found: set[int] = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = row.split()
            if cells[3] == "0A" and f"socket:[{cells[9]}]" in inodes:
                found.add(int(cells[1].rpartition(":")[2], 16))
    return found
