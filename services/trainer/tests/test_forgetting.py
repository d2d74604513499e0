"""What keeps a model from forgetting: general rows mixed in, and a pull towards the base it began as."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from libs.contracts.task import recipe_of
from services.trainer.compute import learner
from services.trainer.compute.bases import load_tokenizer, pad_of
from services.trainer.compute.methods import Language
from services.trainer.compute.reading import drawn_for_replay, read_items
from services.trainer.tests.support import write_dataset
from services.trainer.tests.test_methods import losses
from services.trainer.tests.test_training import Recorder, train

REPLAY = {"dataset": f"sha256:{'2' * 64}", "share": 0.2}


def moved(channel: Recorder) -> float:
    """Mean difference between what the model says of the parity prompts and what its base says (nats)."""
    items = json.loads((Path(channel.last("finished")["path"]) / "parity.json").read_text())["items"]
    apart = [abs(a - b) for item in items for a, b in zip(item["logprobs"], item["base_logprobs"], strict=True)]
    return float(sum(apart) / len(apart))


def test_a_pull_to_the_base_costs_nothing_at_first_and_holds_the_model_nearer_to_it(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    free = train(base, dataset, tmp_path / "free")
    held = train(base, dataset, tmp_path / "held", kl_to_base=20.0)
    assert losses(held)[0] == pytest.approx(losses(free)[0], rel=1e-4)
    assert losses(held)[-1] > losses(free)[-1]
    assert moved(held) < moved(free) * 0.7


def test_the_pull_is_the_same_however_few_logits_are_held_at_once(
    base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(base, dataset, tmp_path / "whole", kl_to_base=1.0, max_steps=4)
    monkeypatch.setitem(learner._CHUNK_LOGITS, "cpu", 2000)
    parts = train(base, dataset, tmp_path / "parts", kl_to_base=1.0, max_steps=4)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)


def test_general_rows_are_the_share_asked_for_of_all_that_is_trained(base: Path, dataset: Path, tmp_path: Path) -> None:
    general = write_dataset(tmp_path / "general", 120, words=3)
    with_them = train(base, dataset, tmp_path / "with", replay=REPLAY, replay_directory=str(general), max_steps=2)
    without = train(base, dataset, tmp_path / "without", max_steps=2)
    assert without.last("ready")["rows"] == 200
    assert with_them.last("ready")["rows"] == 250
    assert with_them.last("ready")["rows_digest"] != without.last("ready")["rows_digest"]


def test_which_general_rows_are_drawn_is_decided_by_the_seed_and_none_is_drawn_twice() -> None:
    one, again, other = (drawn_for_replay(50, 60, 0.25, seed) for seed in (0, 0, 1))
    assert one == again != other
    assert len(set(one)) == len(one) == 20
    assert drawn_for_replay(50, 1000, 0.5, 0) == list(range(50))


def test_a_general_row_is_told_apart_from_a_row_of_the_same_name(base: Path, dataset: Path) -> None:
    tokenizer, stops = load_tokenizer(base)
    language = Language(tokenizer, stops, pad_of(tokenizer, stops))
    recipe = recipe_of(replay=REPLAY)
    items = read_items(dataset / "train.jsonl", base, language, recipe, None, dataset).kept
    assert (items[0].item_id, items[-1].item_id[:11]) == ("row-0", "replay/row-")
    assert items[-1].sequences[0].row_id == items[-1].item_id


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_preferences_take_neither_guard(method: str) -> None:
    with pytest.raises(ValidationError, match="replay is for methods that learn answers"):
        recipe_of(method=method, replay=REPLAY)
    with pytest.raises(ValidationError, match="kl_to_base"):
        recipe_of(method=method, kl_to_base=1.0)
