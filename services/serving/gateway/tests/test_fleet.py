"""Slots against what the routes want, and the sums of the showback."""

from pathlib import Path

from libs.contracts.inference import Role
from libs.contracts.routes import Arm, EngineReport, Route
from services.serving.gateway.domain import Ledger, UsageKey, Use, demands
from services.serving.gateway.store import UsageBook

NOW = "2030-01-01T00:00:00Z"


def engine(name: str = "e", slots: int = 4, memory: int = 8, base: str = "b") -> EngineReport:
    return EngineReport.model_validate(
        {
            "engine_id": name, "address": name, "base_digest": base, "max_loras": slots, "max_adapters": memory,
            "started_at": NOW, "beat_at": NOW,
        }
    )  # fmt: skip


def route(task: str, *arms: tuple[str, Role]) -> Route:
    bare = Arm(version=0, role=Role.CANDIDATE, digest="b", base_digest="b")
    made = [
        Arm(version=number, role=role, digest=digest, base_digest="b", adapter_digest=digest)
        for number, (digest, role) in enumerate(arms, start=1)
    ]
    return Route(tenant="default", task=task, generation=1, salt="s", arms=(bare, *made))


def test_a_version_counts_once_in_its_weightiest_role_and_the_bare_base_not_at_all() -> None:
    routes = [
        route("a", ("x", Role.STABLE), ("y", Role.SHADOW)),
        route("c", ("x", Role.CANDIDATE), ("z", Role.PREVIOUS)),
    ]
    (told,) = demands(routes, [engine(), engine("f", slots=9)])
    assert (told.serving, told.standby, told.others, told.engines, told.slots) == (1, 1, 1, 2, 4)
    assert told.advice == ""


def test_the_adapter_that_is_one_too_many_is_told_with_the_setting_to_change() -> None:
    def advice(number: int) -> str:
        wanted = [route(f"t{n}", (f"d{n}", Role.STABLE)) for n in range(number)]
        (told,) = demands(wanted, [engine()])
        return told.advice

    assert advice(3) == ""
    assert "PAWL_ENGINE_MAX_LORAS to 5" in advice(4)
    assert "PAWL_ENGINE_MAX_CPU_LORAS to 9" in advice(9)
    (told,) = demands([route("a", ("x", Role.STABLE))], [])
    assert told.advice == "no engine serves this base"


def key(day: str = "2026-01-31", tenant: str = "default", **changes: object) -> UsageKey:
    values = {"task": "t", "version": 1, "purpose": "use", "key": "k", **changes}
    return UsageKey(day, tenant, **values)  # type: ignore[arg-type]


def test_sums_are_kept_by_day_and_a_tenant_sees_its_own() -> None:
    ledger = Ledger()
    for each in (key(), key(), key("2026-02-01"), key(tenant="other")):
        ledger.add(each, Use(1, 10, 5, 0.5, 0.25))
    assert dict(ledger.between("", "2026-01-31", "default")) == {key(): Use(2, 20, 10, 1.0, 0.5)}
    assert len(list(ledger.between("", "", None))) == 3
    ledger.add(key("2026-12-01"), Use(1))
    assert [each.day for each in ledger.held] == ["2026-12-01"], "past keeping"


async def test_sums_outlive_the_process_and_a_broken_file_costs_no_more_than_itself(tmp_path: Path) -> None:
    place = tmp_path / "usage.json"
    book = UsageBook(place)
    book.ledger.add(key(), Use(1, 2, 3, 0.5, 0.1))
    await book.write()
    assert UsageBook(place).ledger.held == book.ledger.held
    place.write_text("{")
    assert UsageBook(place).ledger.held == {}
    assert (tmp_path / "usage.broken").read_text() == "{"
