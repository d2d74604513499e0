"""The ways in which vLLM was measured to break, each against a real engine: still so, and not so through our door.

Where a fact about vLLM itself fails here, vLLM has changed: what guards against it may no longer be needed.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
Facts = dict[str, dict[str, Any]]
WEIGHTS_BYTES = 32 * 1024
"""Of one adapter of the tiny base: 2 layers of 4 projections, rank 8, hidden size 64, float32."""


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """What happened; one engine for all, and one more for each further case that kills it."""
    home = tmp_path_factory.mktemp("vllm")
    command = [sys.executable, "-m", "services.serving.engine.tests.vllm_cases", str(home)]
    with (home / "log").open("wb") as log:
        done = subprocess.run(command, stdout=log, stderr=log, timeout=280, check=False)
    assert done.returncode == 0, (home / "log").read_text(errors="replace")[-4000:]
    told: Facts = json.loads((Path(home) / "facts.json").read_text())
    return told


def test_what_is_removed_is_gone_from_the_engine_and_cannot_be_asked_for(facts: Facts) -> None:
    assert facts["removal"] == {"held": 2, "left": True, "refused": "Unavailable"}


def test_weights_are_read_once_however_many_tokens_follow(facts: Facts) -> None:
    assert facts["reading"]["through the door"] == 0
    assert facts["reading"]["in place"] == 20, "in place, vLLM reads them again for every token"


def test_a_prefix_cached_for_one_version_is_never_taken_for_another(facts: Facts) -> None:
    told = facts["cached_prefix"]
    assert told["versions differ"]
    assert told["tokens of the other version"] == 0
    assert told["the same version again"]
    assert told["its own tokens"] > 0
    assert told["stale tokens"] > 0, "under one name and path vLLM takes those of other bytes"
    assert not told["stale answer is right"]


def test_versions_that_vllm_dropped_without_a_word_answer_in_one_batch_each_as_itself(facts: Facts) -> None:
    told = facts["one_batch"]
    assert told["dropped"] > 0
    assert told["all right"]
    assert told["different"] == 7


def test_residency_tells_of_idle_adapters_and_of_no_other(facts: Facts) -> None:
    assert facts["one_batch"]["idle ones are told"] == 5


def test_an_adapter_without_files_is_refused_at_load_and_at_use_and_the_engine_lives(facts: Facts) -> None:
    told = facts["missing_files"]
    assert (told["at load"], told["at use"]) == ("AdapterRefused", "Unavailable")
    assert told["tokens afterwards"] == 8
    assert told["past the door"], "loading it only raises"


def test_the_last_slot_is_never_pinned_and_more_adapters_than_slots_answer(facts: Facts) -> None:
    assert facts["pins"] == {"pinned": [True, True, False], "answered": 5, "kept": True}


def test_nobody_overtakes_the_one_who_waits_for_a_slot(facts: Facts) -> None:
    assert facts["turns"]["overtaken by"] == 0


def test_repeated_loads_leave_nothing_behind(facts: Facts) -> None:
    assert facts["memory"]["left"] == 0
    assert facts["memory"]["bytes a load"] < WEIGHTS_BYTES / 2


@pytest.mark.parametrize("case", ["two_under_one_name", "absent_at_use", "every_slot_pinned"])
def test_what_kills_vllm_past_the_door_is_noticed(facts: Facts, case: str) -> None:
    assert facts[case] == {"ended": ["EngineDeadError"], "dead": True, "told": "Unavailable"}
