"""vLLM's own OpenAI server in the model's place: it answers as a model of ours does, and is left when it dies."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
import pytest_asyncio

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.inference import Role
from libs.contracts.routes import EngineReport
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc, inference_pb2
from libs.contracts.subjects import ENGINES
from libs.eventing.kv import kv_get
from libs.runtime.grpc_client import channel
from libs.testing.servers import free_port
from libs.testing.wait import eventually
from services.serving.conftest import START_SECONDS, Service, Stack
from services.serving.engine.tests.test_engine import Client

pytestmark = pytest.mark.slow
SCHEMA = json.dumps({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})


class Outside:
    """vLLM's server on the stack's base, and the engine that stands before it."""

    def __init__(self, stack: Stack, home: Path) -> None:
        self.port = free_port()
        self.log = home / "vllm.log"
        self.command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(stack.base)]
        self.command += ["--served-model-name", "theirs", "--host", "127.0.0.1", "--port", str(self.port)]
        self.command += ["--enable-lora", "--max-loras", "3", "--max-cpu-loras", "6", "--max-lora-rank", "16"]
        self.command += ["--enforce-eager", "--kv-cache-memory-bytes", str(128 * 1024**2), "--max-num-seqs", "16"]
        self.command += ["--distributed-executor-backend", "uni"]
        self.environment = {
            **os.environ,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "TORCHDYNAMO_DISABLE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        told = {"PAWL_ENGINE_ID": "outside", "PAWL_ENGINE_OUTSIDE_URL": self.url}
        self.engine = Service("services.serving.engine", home / "outside", {**stack.engine.environment, **told})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"{self.url}/health", timeout=2).raise_for_status()
            except httpx.HTTPError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(self.log.read_text(errors="replace")[-4000:]) from None
                time.sleep(0.2)
            else:
                return

    def listed(self) -> set[str]:
        told = httpx.get(f"{self.url}/v1/models", timeout=30).json()
        return {each["id"] for each in told["data"]}

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics", timeout=30).text
        lines = [line for line in text.splitlines() if line.startswith(f"vllm:{name}{{")]
        return float(lines[0].rpartition(" ")[2])

    def hold(self) -> None:
        """Stop the process of the model where it is; its server goes on."""
        for each in psutil.Process(self.process.pid).children(recursive=True):
            each.suspend()

    def go_on(self) -> None:
        for each in psutil.Process(self.process.pid).children(recursive=True):
            each.resume()

    def forget(self, name: str) -> None:
        answer = httpx.post(f"{self.url}/v1/unload_lora_adapter", json={"lora_name": name}, timeout=30)
        answer.raise_for_status()

    def kill(self) -> None:
        """All its processes, as when a machine goes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)


@pytest.fixture(scope="module")
def outside(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    made = Outside(stack, tmp_path_factory.mktemp("outside"))
    try:
        made.engine.start()  # it waits for the server
        made.wait()
        made.engine.wait_ready()
        yield made
    finally:
        made.engine.stop()
        made.kill()


@pytest_asyncio.fixture
async def theirs(outside: Outside) -> AsyncIterator[Client]:
    opened = channel(outside.engine.address)
    yield Client(engine_pb2_grpc.EngineServiceStub(opened))
    await opened.close()


@pytest_asyncio.fixture
async def ours(stack: Stack) -> AsyncIterator[Client]:
    opened = channel(stack.engine.address)
    yield Client(engine_pb2_grpc.EngineServiceStub(opened))
    await opened.close()


def proof(message: Any) -> tuple[str, ...]:
    return message.base_digest, message.adapter_digest, message.tokenizer_digest, message.template_digest


async def test_it_answers_as_a_model_of_ours_and_proves_the_same(
    stack: Stack, outside: Outside, theirs: Client, ours: Client, fresh_task: str
) -> None:
    first, second = await stack.adapter("theirs-1", 901), await stack.adapter("theirs-2", 902)
    await stack.put_route(fresh_task, stack.arm(1, Role.STABLE, first), stack.arm(2, Role.CANARY, second))
    for client in (theirs, ours):
        await client.routable(first, second)
    texts = set()
    for digest in (first, second, stack.base_digest):
        there, here = await theirs.infer(digest, with_logprobs=True), await ours.infer(digest, with_logprobs=True)
        assert list(there[-1].output_token_ids) == list(here[-1].output_token_ids)
        assert list(there[-1].prompt_token_ids) == list(here[-1].prompt_token_ids)
        assert list(there[-1].output_logprobs) == pytest.approx(list(here[-1].output_logprobs), abs=1e-3)
        assert {proof(each) for each in there} == {proof(each) for each in here}
        assert there[-1].usage == here[-1].usage
        assert len(there) > 1
        (whole,) = await theirs.infer(digest, whole=True)
        texts.add(whole.text_delta)
        assert whole.text_delta == "".join(each.text_delta for each in here)
    assert len(texts) == 3
    assert {f"{fresh_task}@{first}", f"{fresh_task}@{second}"} <= outside.listed()


async def test_what_an_answer_can_be_asked_for_it_can_be_asked_for_there(
    stack: Stack, theirs: Client, ours: Client
) -> None:
    def asked(sampling: inference_pb2.Sampling, **options: Any) -> engine_pb2.InferRequest:
        hello = inference_pb2.Message(role="user", content="hello")
        return engine_pb2.InferRequest(
            request_id="r", messages=[hello], sampling=sampling, version_digest=stack.base_digest, **options
        )

    async def answers(client: Client, request: engine_pb2.InferRequest) -> list[Any]:
        return [each async for each in client.stub.Infer(request, timeout=60)]

    several = asked(inference_pb2.Sampling(max_tokens=5, n=3, temperature=1.0, seed=7))
    told = await answers(theirs, several)
    assert {each.index for each in told if each.finish_reason} == {0, 1, 2}
    assert told[-1].usage.completion_tokens == 15
    likely = asked(inference_pb2.Sampling(max_tokens=4, logprobs=True, top_logprobs=3))
    there, here = await answers(theirs, likely), await answers(ours, likely)

    def chances(messages: list[Any]) -> list[Any]:
        return [each for message in messages for each in message.logprobs]

    assert [each.token for each in chances(there)] == [each.token for each in chances(here)]
    for its, own in zip(chances(there), chances(here), strict=True):
        # Its API names rivals by their text, so that two halves of characters are one.
        assert {each.token for each in its.top} <= {each.token for each in own.top}
        assert its.logprob == pytest.approx(own.logprob, abs=1e-3)
        assert its.top[0].logprob == its.logprob
    held = await answers(theirs, asked(inference_pb2.Sampling(max_tokens=40), json_schema=SCHEMA))
    assert isinstance(json.loads("".join(each.text_delta for each in held))["a"], bool)
    letter = [token for each in await theirs.infer(stack.base_digest) for token in each.text_delta][2]
    stopped = await answers(theirs, asked(inference_pb2.Sampling(max_tokens=12, stop=[letter])))
    assert letter not in "".join(each.text_delta for each in stopped)
    assert stopped[-1].finish_reason == "stop"
    for whole in (False, True):
        with pytest.raises(InvalidInput) as refused:
            await theirs.infer(stack.base_digest, tokens=4, json_schema='{"type": "nothing known"}', whole=whole)
        assert refused.value.field == "response_format"


async def test_a_version_let_go_is_unloaded_there_and_a_bad_one_is_never_sent(
    stack: Stack, outside: Outside, theirs: Client, fresh_task: str
) -> None:
    leaving, bad = await stack.adapter("theirs-3", 903), await stack.adapter("theirs-bad", 904, rank=32)
    await stack.put_route(fresh_task, stack.arm(1, Role.STABLE, leaving), stack.arm(2, Role.CANDIDATE, bad))
    await theirs.routable(leaving)

    async def refused() -> str:
        states = {each.digest: each for each in (await theirs.state()).versions}
        return str(states[bad].reason) if bad in states and states[bad].state == "failed" else ""

    assert "rank" in await eventually(refused, 30)
    assert f"{fresh_task}@{bad}" not in outside.listed()
    await stack.put_route(fresh_task, stack.arm(0, Role.STABLE))
    await theirs.gone(leaving)
    await eventually(lambda: f"{fresh_task}@{leaving}" not in outside.listed(), 30)
    with pytest.raises(FailedPrecondition):
        await theirs.infer(leaving)


async def _left_midway(outside: Outside, theirs: Client, call: Any) -> bool:
    """Hold the model while it writes an answer, and hang up then; False where it had written all of it."""
    await call.read()
    outside.hold()
    try:
        async with asyncio.timeout(2):
            while await call.read() is not grpc.aio.EOF:
                continue
        return False
    except TimeoutError:  # no more comes; with its read the call was cancelled
        await eventually(call.done)

        async def let_go() -> bool:
            return not (await theirs.state()).in_flight

        return bool(await eventually(let_go))
    finally:
        outside.go_on()


async def test_hanging_up_aborts_it_there(stack: Stack, outside: Outside, theirs: Client) -> None:
    request = engine_pb2.InferRequest(
        request_id="long",
        messages=[inference_pb2.Message(role="user", content="x")],
        sampling=inference_pb2.Sampling(max_tokens=480, logit_bias={2: -100.0}),
        version_digest=stack.base_digest,
    )
    for _ in range(10):
        before = outside.metric("generation_tokens_total")
        if await _left_midway(outside, theirs, theirs.stub.Infer(request)):
            break
    else:
        pytest.fail("it writes faster than anybody can hang up")
    await eventually(lambda: outside.metric("num_requests_running") == 0, 30)
    assert 0 < outside.metric("generation_tokens_total") - before < 480


async def test_when_the_server_lost_its_adapters_the_engine_starts_anew_and_they_are_back(
    stack: Stack, outside: Outside, theirs: Client, fresh_task: str
) -> None:
    digest = await stack.adapter("theirs-5", 905)
    await stack.put_route(fresh_task, stack.arm(1, Role.STABLE, digest))
    await theirs.routable(digest)
    before = await theirs.text(digest)
    # As after a restart of the server that nobody saw.
    name = f"{fresh_task}@{digest}"
    outside.forget(name)
    process = outside.engine.process
    assert process is not None
    await eventually(lambda: process.poll() is not None, 30)
    assert process.returncode == 1, "a supervisor starts it again"
    outside.engine.start()
    await asyncio.to_thread(outside.engine.wait_ready)
    await theirs.routable(digest)
    assert await theirs.text(digest) == before
    assert name in outside.listed()


async def test_a_server_that_died_is_left_within_seconds(stack: Stack, outside: Outside) -> None:
    async def report() -> EngineReport | None:
        entry = await stack.linked(lambda link: kv_get(link, ENGINES, "outside"))
        return EngineReport.model_validate_json(entry.value) if entry.value else None

    assert (await report()) is not None
    process = outside.engine.process
    assert process is not None
    outside.kill()
    await eventually(lambda: process.poll() is not None, 30)
    assert process.returncode == 1
    assert (await report()) is None, "nobody is sent there any more"
