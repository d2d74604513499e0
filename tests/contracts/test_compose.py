"""The compose file starts every process of the house, and says nothing to them that they would not hear."""

import hashlib
import importlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from libs.eventing.__main__ import main as topology
from libs.runtime.settings import ProcessSettings, ServiceSettings
from pawl.local.specs import MODULES, SERVICES

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
HOUSE = {MODULES.get(name, f"services.{name}") for name in (*SERVICES, "engine")}
OURS = {name: service for name, service in COMPOSE.items() if service.get("command", [""])[0] in HOUSE}
JOBS = {name: service for name, service in COMPOSE.items() if service.get("command", [""])[0].startswith("libs.")}
ENVIRONMENT_OF_JOBS = {"PAWL_DATABASE_URL", "PAWL_NATS_USER", "PAWL_NATS_PASSWORD"}
HARD_EXIT_MARGIN_SECONDS = 5.0


def settings_of(module: str) -> type[ProcessSettings]:
    """The settings class that a process loads."""
    found = [
        each
        for each in vars(importlib.import_module(f"{module}.settings")).values()
        if isinstance(each, type) and issubclass(each, ProcessSettings) and each.__module__ == f"{module}.settings"
    ]
    assert len(found) == 1, f"{module}.settings has {len(found)} settings classes"
    return found[0]


def resolved(value: str) -> str:
    """A value with every `${NAME:-default}` at its default; one without a default stays and is found by the test."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def named_in_dockerfile(service: dict[str, Any]) -> set[str]:
    text = (ROOT / service["build"]["dockerfile"]).read_text()
    return set(re.findall(r"\b(PAWL_\w+)=", text))


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_each_profile_has_every_process_of_the_house_once(profile: str) -> None:
    started = [service["command"][0] for service in OURS.values() if profile in service["profiles"]]
    assert sorted(started) == sorted(HOUSE)


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_what_a_service_waits_for_is_in_its_profile(profile: str) -> None:
    chosen = {name: service for name, service in COMPOSE.items() if profile in service["profiles"]}
    for name, service in chosen.items():
        assert set(service.get("depends_on", {})) <= set(chosen), name


@pytest.mark.parametrize("name", sorted(OURS | JOBS))
def test_every_module_and_dockerfile_exists(name: str) -> None:
    service = COMPOSE[name]
    assert importlib.util.find_spec(f"{service['command'][0]}.__main__") is not None
    build = service["build"]
    dockerfile = (ROOT / build["dockerfile"]).read_text()
    for lock in re.findall(r"COPY (infra/locks/\S+)", dockerfile):
        assert (ROOT / lock.replace("${SERVICE}", build.get("args", {}).get("SERVICE", ""))).is_file()
    for option in build.get("args", {}):
        assert re.search(rf"^ARG {option}\b", dockerfile, re.MULTILINE), option


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_variable_is_a_setting_of_its_process(name: str) -> None:
    service = OURS[name]
    settings = settings_of(service["command"][0])
    known = {settings.variable(field) for field in settings.model_fields}
    known |= {f"PAWL_{field.upper()}" for field in ServiceSettings.model_fields}
    given = set(service["environment"]) | named_in_dockerfile(service)
    assert given - known == set()


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_process_accepts_what_it_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = OURS[name]
    for variable, value in service["environment"].items():
        assert isinstance(value, str), f"{variable} must be quoted"
        monkeypatch.setenv(variable, resolved(value))
    monkeypatch.setenv("PAWL_STATE_DIR", "/state")
    settings = settings_of(service["command"][0])()
    assert settings.health_port == 8081
    grace = float(service["stop_grace_period"].removesuffix("s"))
    assert grace > settings.drain_seconds + HARD_EXIT_MARGIN_SECONDS


@pytest.mark.parametrize("name", sorted(OURS))
def test_published_and_named_ports_are_listened_on_for_others(name: str) -> None:
    service = OURS[name]
    for published in service.get("ports", ()):
        assert published.startswith("${PAWL_BIND:-127.0.0.1}:")
        inner = published.rsplit(":", 1)[1]
        door = next(key for key, value in service["environment"].items() if value == inner)
        assert service["environment"][door.replace("_PORT", "_HOST")] == "0.0.0.0"


def test_jobs_are_told_what_they_read() -> None:
    for service in JOBS.values():
        assert set(service.get("environment", {})) <= ENVIRONMENT_OF_JOBS


def test_every_address_among_the_processes_is_one_that_answers() -> None:
    names = set(COMPOSE)
    for service in COMPOSE.values():
        names |= set(service.get("networks", {}).get("default", {}).get("aliases", ()))
    for service in OURS.values():
        for variable, value in service["environment"].items():
            if variable.endswith("_ADDRESS"):
                host, port = value.split(":")
                assert host in names, variable
                assert port == "8080"


@pytest.mark.parametrize("name", sorted(OURS | JOBS))
def test_the_broker_knows_each_process_by_the_password_it_has(name: str) -> None:
    told = COMPOSE[name].get("environment", {})
    if "PAWL_NATS_USER" in told:
        held = COMPOSE["nats"]["environment"]
        assert told["PAWL_NATS_PASSWORD"] == held[f"PAWL_NATS_{told['PAWL_NATS_USER'].upper()}"]
    else:
        assert "PAWL_NATS_URL" not in told


def test_the_brokers_permissions_are_those_of_the_topology(capsys: pytest.CaptureFixture[str]) -> None:
    assert topology(["permissions"]) == 0
    told = capsys.readouterr().out
    assert (ROOT / "infra" / "nats" / "permissions.conf").read_text() == told, "make it anew"
    assert set(re.findall(r"\$(PAWL_\w+)", told)) == set(COMPOSE["nats"]["environment"])


def test_only_healthy_counts_as_up() -> None:
    for name, service in COMPOSE.items():
        if name not in JOBS:
            assert service["healthcheck"]["test"], name


def test_secrets_come_from_the_environment_and_the_example_keys_fit_them() -> None:
    for service in COMPOSE.values():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"SECRET|PASSWORD|API_KEY|DATABASE_URL", variable):
                assert "${" in value, variable
    keys = json.loads((ROOT / "infra" / "keys.example.json").read_text())
    held = {key["name"]: key["key_hash"] for key in keys}
    evaluator = resolved(COMPOSE["evaluator"]["environment"]["PAWL_EVALUATOR_API_KEY"])
    assert held["evaluator"] == hashlib.sha256(evaluator.encode()).hexdigest()
    guide = (ROOT / "docs" / "how-to" / "compose.md").read_text()
    client = re.search(r"PAWL_API_KEY=(\S+)", guide)
    assert client is not None
    assert held["client"] == hashlib.sha256(client[1].encode()).hexdigest()


def test_no_image_of_ours_runs_as_root() -> None:
    for path in (ROOT / "infra" / "images").glob("*.Dockerfile"):
        users = re.findall(r"^USER (\S+)", path.read_text(), re.MULTILINE)
        assert users, path.name
        assert not users[-1].startswith(("0", "root")), path.name
