"""Inference answers while everything else is dead, restarts of gateway and engine included."""

import os
import signal
import subprocess
import sys

import httpx
import psutil
import pytest

from tests.e2e.promotion import TASK, Promotion
from tests.e2e.stack import RunningStack, described, until
from tests.e2e.test_doors import TICKET


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_inference_goes_on_when_all_but_gateway_and_engine_are_killed_and_those_two_restarted_alone(
    stack: RunningStack, promotion: Promotion
) -> None:
    told = stack.status()
    headers = {"authorization": f"Bearer {told['api_key']}"}
    body = {"model": TASK, "messages": [{"role": "user", "content": TICKET}], "max_tokens": 4, "temperature": 0}

    def answer() -> str:
        """What the promoted adapter says; nothing while nobody answers."""
        try:
            reply = httpx.post(f"{told['endpoints']['http']}/chat/completions", json=body, headers=headers, timeout=60)
        except httpx.HTTPError:
            return ""
        if reply.status_code != 200:
            return ""
        document = reply.json()
        assert document["model"] == f"{TASK}@{promotion.version.number}"
        assert document["pawl"]["adapter_digest"] == promotion.version.digest
        return str(document["choices"][0]["message"]["content"])

    serving = [each for each in told["processes"] if each["name"] == "gateway" or each["name"].startswith("engine-")]
    others = [each for each in told["processes"] if each not in serving]
    before = answer()
    assert before
    for each in sorted(others, key=lambda each: each["name"] != "supervisor"):
        os.kill(each["pid"], signal.SIGKILL)
    assert answer() == before, "with the control plane dead"
    for each in serving:
        os.kill(each["pid"], signal.SIGKILL)
    until(lambda: not any(psutil.pid_exists(each["pid"]) for each in serving), 10, "dead")
    command = [
        sys.executable,
        "-m",
        "pawl.cli",
        "up",
        "--only",
        "gateway",
        "--only",
        "engine",
        "--dir",
        str(stack.home),
    ]
    alone = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        assert until(answer, 90, "answering from local state alone") == before
        names = {each["name"] for each in stack.status()["processes"]}
        assert names == {"supervisor", *(each["name"] for each in serving)}
    finally:
        left = stack.family()
        alone.send_signal(signal.SIGINT)  # Ctrl-C
        assert alone.wait(60) == 0
        until(lambda: not described(left), 10, "gone to the last process")
    stack.pawl("up", "--detach")
    assert answer() == before, "and with everything back"


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_down_leaves_no_process_behind_even_after_the_supervisor_was_killed(stack: RunningStack) -> None:
    left = stack.family()
    os.kill(stack.pid("supervisor"), signal.SIGKILL)
    assert described(left), "they go on serving"
    stack.pawl("down")
    until(lambda: not described(left), 10, "gone to the last process")
    stack.pawl("up", "--detach")
