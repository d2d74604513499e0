"""The live view without any process: traits, rates per user, drift, drops."""

import random
from collections.abc import Iterator

import pytest

from libs.contracts.task import DropSpec
from services.evaluator.domain.drift_inputs import Asked, drifts
from services.evaluator.domain.live import category_of, language_of, refused, sketch_of
from services.evaluator.domain.live_drop import DropWatch, UserWindow, recheck
from services.evaluator.domain.live_metrics import Mirrored, Served, metrics_of, shadow_of

TICKETS = ("printer in room {} prints nothing", "my invoice {} is wrong", "please reset password {}")


def served(unit: str, *, version: int = 1, segment: str | None = None, **changes: object) -> Served:
    values: dict[str, object] = {
        "version": version, "role": "stable", "unit": unit, "segment": segment, "failed": False, "whole": True,
        "valid": True, "refused": False, "latency_ms": 100.0, "first_token_ms": 20.0, "output_chars": 40,
        "completion_tokens": 10, "good": False, "bad": False, "escalated": False,
    }  # fmt: skip
    return Served(**{**values, **changes})  # type: ignore[arg-type]


def windows(
    shares: list[tuple[int, float]], *, version: int = 1, seed: int = 1, first: int = 1
) -> Iterator[UserWindow]:
    rng = random.Random(seed)
    number = first
    for count, share in shares:
        for _ in range(count):
            yield UserWindow(number, version, 10.0 * number, rng.random() < share)
            number += 1


def asked(count: int, seed: int, kinds: tuple[str, ...] = TICKETS, language: str = "en") -> list[Asked]:
    rng = random.Random(seed)
    texts = [rng.choice(kinds).format(rng.randrange(1000)) for _ in range(count)]
    return [Asked(len(text), language, kinds[0][:5], sketch_of(text)) for text in texts]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The printer in my room is not working, can you help me?", "en"),
        ("Der Drucker in meinem Zimmer ist kaputt, bitte helfen Sie mir", "de"),
        ("L'imprimante ne marche pas, merci de nous aider avec ce problème", "fr"),
        ("Принтер не работает, помогите", "ru"),
        ("打印机坏了", "zh"),
        ("12345 ///", "none"),
        ("xkcd qwrt", "other"),
    ],
)
def test_a_language_is_guessed_from_script_and_common_words(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot do that", True),
        ("As an AI model I have no opinion", True),
        ('{"category": "billing"}', False),
        ("The user says: I'm sorry", False),
        ("No comment from us", True),
    ],
)
def test_a_refusal_is_told_by_how_it_begins(answer: str, refuses: bool) -> None:
    assert refused(answer, ("no comment",)) is refuses


def test_the_category_is_what_a_json_answer_says() -> None:
    assert category_of('{"category": "billing", "x": 1}') == "billing"
    assert category_of('{"label": 3}') == "3"
    assert category_of("billing") is None
    assert category_of("{broken") is None


def test_rates_have_the_user_as_their_unit() -> None:
    one_user = [served("ann", bad=True) for _ in range(90)] + [served(f"u{n}", good=True) for n in range(10)]
    many = [served(f"v{n}", bad=n < 90, good=n >= 90) for n in range(100)]
    narrow = metrics_of(many)[0]["segments"]["all"]["satisfaction"]
    wide = metrics_of(one_user)[0]["segments"]["all"]["satisfaction"]
    assert narrow["value"] == wide["value"] == 0.1
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_versions_and_segments_have_lines_of_their_own() -> None:
    rows = [served(f"u{n}", segment="eu" if n % 2 else "us", failed=n % 2 == 0, whole=n % 2 == 1) for n in range(40)]
    told = metrics_of([*rows, served("x", version=2, role="canary")])
    assert [(each["version"], each["role"]) for each in told] == [(2, "canary"), (1, "stable")]
    segments = told[1]["segments"]
    assert {name: line["errors"]["value"] for name, line in segments.items()} == {"all": 0.5, "eu": 0.0, "us": 1.0}
    assert segments["us"]["latency_p95_ms"] is None


def test_an_answer_somebody_called_bad_is_bad_whoever_else_praised_it() -> None:
    line = metrics_of([served("ann", good=True, bad=True), served("bob", good=True)])[0]["segments"]["all"]
    assert line["satisfaction"]["value"] == 0.5


def test_shadow_answers_are_compared_in_pairs() -> None:
    pairs = [Mirrored(None, f"u{n}", n % 4 > 0, 100.0, 150.0, 40, 50) for n in range(80)]
    told = shadow_of(pairs)
    assert told is not None
    assert told["same_answer"]["value"] == 0.75
    assert told["latency_ratio"]["value"] == pytest.approx(1.5)
    assert told["longer_by_chars"]["value"] == 10.0
    assert shadow_of([]) is None


def test_inputs_that_stay_are_not_called_moved_and_those_that_move_are_told_by_trait() -> None:
    steady = drifts(asked(300, 1), asked(300, 2), 0.1)
    assert set(steady) == {"length", "cluster"}
    assert all(trait["moved"] != "moved" for trait in steady.values())
    moved = drifts(asked(300, 1), asked(300, 2, ("Rechnung {} stimmt nicht, bitte prüfen Sie",), "de"), 0.1)
    assert {name: trait["moved"] for name, trait in moved.items()} == {
        "length": "moved", "language": "moved", "category": "moved", "cluster": "moved",
    }  # fmt: skip
    assert drifts(asked(300, 1), asked(10, 2), 0.1) == {}


def test_a_drop_is_found_soon_and_names_when_it_began() -> None:
    watch = DropWatch(DropSpec(run_length=1000, dwell_seconds=60), reference_users=200)
    (drop,) = watch.extend(windows([(1000, 0.95), (400, 0.7)]))
    assert 1000 < drop.last_window <= 1200
    assert abs(drop.first_window - 1001) < 150
    assert drop.satisfaction < drop.floor < 0.95


def test_production_that_stays_as_it_was_raises_no_alarm() -> None:
    alarms = 0
    for seed in range(20):
        watch = DropWatch(DropSpec(run_length=10_000), reference_users=200)
        alarms += len(watch.extend(windows([(1500, 0.9)], seed=seed)))
    assert alarms == 0


def test_an_alarm_must_hold_and_rests_after_it_was_told() -> None:
    short = DropSpec(floor=0.8, run_length=100, dwell_seconds=0, cooldown_seconds=0)
    dip = [(100, 1.0), (5, 0.0), (40, 1.0)]
    assert len(DropWatch(short, 200).extend(windows(dip))) == 1
    patient = short.model_copy(update={"dwell_seconds": 300.0})
    assert DropWatch(patient, 200).extend(windows(dip)) == []
    lasting = [(100, 1.0), (300, 0.0)]
    assert len(DropWatch(short, 200).extend(windows(lasting))) > 5
    rested = short.model_copy(update={"cooldown_seconds": 10_000.0})
    assert len(DropWatch(rested, 200).extend(windows(lasting))) == 1


def test_a_new_stable_version_is_measured_by_its_own_beginning() -> None:
    watch = DropWatch(DropSpec(run_length=1000, dwell_seconds=0), reference_users=100)
    assert watch.extend(windows([(500, 0.98)])) == []
    # Worse than the version before it, and steadily so: not a drop of this one.
    assert watch.extend(windows([(600, 0.8)], version=2, first=501, seed=3)) == []
    assert len(watch.extend(windows([(300, 0.4)], version=2, first=1101))) == 1


def test_a_drop_can_be_found_again_and_a_forged_one_cannot() -> None:
    spec = DropSpec(run_length=1000, dwell_seconds=60)
    rows = list(windows([(1000, 0.95), (400, 0.7)]))
    (drop,) = DropWatch(spec, 200).extend(rows)
    seen = rows[: drop.last_window]
    document = {
        name: getattr(drop, name)
        for name in ("version", "floor", "satisfaction", "e_value", "needed", "users", "first_window", "last_window")
    }
    assert recheck(document, spec, 200, seen) == []
    assert "satisfaction" in recheck({**document, "satisfaction": 0.1}, spec, 200, seen)[0]
    assert "no drop is shown" in recheck(document, spec, 200, list(windows([(len(seen), 0.95)])))[0]
