"""Each light process starts from its own lock alone, without torch in its environment."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from libs.eventing.__main__ import main as topology
from libs.testing.servers import NatsServer, S3Server, free_port
from tests.e2e.stack import ROOT, until

LIGHT = {
    "ingestion": "services.ingestion",
    "curation": "services.curation",
    "evaluator": "services.evaluator",
    "registry": "services.registry",
    "gateway": "services.serving.gateway",
    "console": "services.console",
}


def uv() -> str:
    return str(Path(sys.executable).with_name("uv"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LIGHT))
def test_a_light_process_starts_from_its_lock_alone_and_without_torch(
    name: str, tmp_path: Path, nats_server: NatsServer, s3_server: S3Server
) -> None:
    environment = tmp_path / "venv"
    subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    python = str(environment / "bin" / "python")
    lock = ROOT / "infra" / "locks" / f"{name}.txt"
    install = [uv(), "pip", "install", "--quiet", "--no-deps", "--python", python, "-r", str(lock)]
    subprocess.run(install, check=True)
    for absent in ("torch", "vllm", "transformers"):
        assert subprocess.run([python, "-c", f"import {absent}"], capture_output=True).returncode != 0, absent

    assert topology(["apply", "--nats", nats_server.url]) == 0
    prefix = f"PAWL_{name.upper()}"
    health = free_port()
    settings = {
        "PAWL_NATS_URL": nats_server.url,
        "PAWL_S3_ENDPOINT": s3_server.endpoint,
        "PAWL_S3_ACCESS_KEY": s3_server.access_key,
        "PAWL_S3_SECRET_KEY": s3_server.secret_key,
        "PAWL_STATE_DIR": str(tmp_path / "state"),
        f"{prefix}_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'state' / 'state.db'}",
        f"{prefix}_HEALTH_PORT": str(health),
        f"{prefix}_GRPC_PORT": str(free_port()),
        f"{prefix}_HTTP_PORT": str(free_port()),
        "PAWL_EVALUATOR_GATEWAY_ADDRESS": f"127.0.0.1:{free_port()}",
        "PAWL_EVALUATOR_API_KEY": "unused",
        **{
            f"PAWL_CONSOLE_{each}_ADDRESS": "127.0.0.1:1"
            for each in ("REGISTRY", "INGESTION", "CURATION", "TRAINER", "EVALUATOR")
        },
    }
    (tmp_path / "state").mkdir()
    run = os.environ | settings | {"PYTHONPATH": str(ROOT)}
    if name not in ("gateway", "console"):
        subprocess.run([python, "-m", "libs.outbox", "migrate", name], env=run, check=True, cwd=tmp_path)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([python, "-m", LIGHT[name]], env=run, stdout=output, stderr=output, cwd=tmp_path)
    try:

        def started() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{health}/livez", timeout=2) as answer:
                    return answer.status == 200
            except urllib.error.URLError:
                return False

        until(started, 30, f"{name} started")
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
