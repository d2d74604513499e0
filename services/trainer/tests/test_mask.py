"""Which tokens train, and the runs that are refused because the wrong ones would."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task import recipe_of
from libs.testing.models import tiny_base
from services.trainer.compute import corpus
from services.trainer.compute.bases import check_base, load_model, load_tokenizer, pad_of
from services.trainer.compute.batches import collate
from services.trainer.compute.corpus import Packed
from services.trainer.compute.examples import Example, Item
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine
from services.trainer.compute.mask import check_isolation, check_masks, check_text, show
from services.trainer.compute.methods import Language
from services.trainer.compute.reading import pack, read_items
from services.trainer.compute.rows import read_rows

CPU = Machine(torch.device("cpu"), torch.float32)


@pytest.fixture
def language(base: Path) -> Language:
    tokenizer, stops = load_tokenizer(base)
    return Language(tokenizer, stops, pad_of(tokenizer, stops))


@pytest.fixture
def items(base: Path, dataset: Path, language: Language) -> Sequence[Item]:
    return read_items(dataset / "train.jsonl", base, language, recipe_of(), None).kept


def with_mask(item: Item, trained: list[bool]) -> Item:
    sequence = item.sequences[0]
    return Item(item.item_id, (Example(sequence.row_id, sequence.tokens, tuple(trained)),))


def test_the_xray_shows_the_answer_and_its_stop_token_as_trained(items: Sequence[Item], language: Language) -> None:
    row = show(items[0], language)[0]
    assert row.parts == (("<|bos|><|user|>add 0<|end|><|assistant|>", False), ("sum 0<|end|>", True))
    assert row.stop_trained


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda mask: [False] * len(mask), "no token of it is trained"),
        (lambda mask: [True] * len(mask), "every token of it is trained"),
        (lambda mask: [*mask[:-1], False], "the token that ends the answer is not trained"),
        (lambda mask: [mask[0], True, *mask[2:]], "more than one stretch"),
    ],
)
def test_a_wrong_mask_refuses_the_run_with_the_row_and_the_mend(
    items: Sequence[Item], language: Language, change: Any, said: str
) -> None:
    check_masks(items, language)
    broken = with_mask(items[3], change(list(items[3].sequences[0].trained)))
    with pytest.raises(FailedPrecondition, match=f"row row-3: {said}.*generation") as caught:
        check_masks([*items[:3], broken], language)
    assert caught.value.reason == "MASK_WRONG"


def test_trained_tokens_that_do_not_read_as_the_answer_refuse_the_run(
    items: Sequence[Item], dataset: Path, language: Language
) -> None:
    rows = dataset / "train.jsonl"
    check_text(read_rows(rows), items, language)
    mask = list(items[0].sequences[0].trained)
    late = mask.index(True) + 2
    with pytest.raises(FailedPrecondition, match=r"the trained tokens read 'm0<\|end\|>'"):
        check_text(read_rows(rows), [with_mask(items[0], [at >= late for at in range(len(mask))])], language)
    early = [at >= 2 for at in range(len(items[11].sequences[0].tokens))]
    with pytest.raises(FailedPrecondition, match="row row-11: the question is trained"):
        check_text(read_rows(rows), [with_mask(items[11], early)], language)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_packed_examples_are_blind_to_each_other(
    tmp_path: Path, items: Sequence[Item], language: Language, architecture: Any
) -> None:
    base = tiny_base(tmp_path / "base", architecture=architecture)
    learner = Learner(load_model(base, CPU), CPU)
    packed = packed_in(items[:24], 256)
    assert max(len(item.sequences) for item in packed) > 2
    assert max(item.length for item in packed) <= 256
    assert sorted(s.row_id for item in packed for s in item.sequences) == sorted(item.item_id for item in items[:24])
    assert check_isolation(learner, list(enumerate(packed)), language.pad) < 1e-3


def packed_in(items: Sequence[Item], room: int) -> Packed:
    return Packed(items, pack([item.length for item in items], room))


def test_a_model_that_looks_across_the_borders_refuses_packing(
    base: Path, items: Sequence[Item], language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = Learner(load_model(base, CPU), CPU)
    # What a mask of ones does: attention over the whole row, silently.
    monkeypatch.setattr("services.trainer.compute.learner._layout", lambda _: {"use_cache": False})
    with pytest.raises(FailedPrecondition, match=r"recipe\.packing to false") as caught:
        check_isolation(learner, list(enumerate(packed_in(items[:8], 256))), language.pad)
    assert caught.value.reason == "PACKING_LEAKS"


def test_the_loss_of_a_row_does_not_depend_on_the_rows_beside_it(
    base: Path, items: Sequence[Item], language: Language
) -> None:
    learner = Learner(load_model(base, CPU), CPU)
    some = list(enumerate(items[:6]))
    together = learner.losses(collate(some, language.pad, CPU.device))
    apart = torch.cat([learner.losses(collate([each], language.pad, CPU.device)) for each in some])
    assert torch.allclose(together, apart, atol=1e-4)


def test_tokenised_rows_are_kept_by_digest_and_give_the_same_items(
    base: Path, dataset: Path, language: Language, tmp_path: Path
) -> None:
    def read(cache: Path | None = tmp_path, **recipe: Any) -> Any:
        return read_items(dataset / "train.jsonl", base, language, recipe_of(**recipe), cache)

    first = read()
    items = list(first.kept)
    assert items == list(read(None).kept)
    kept = list(tmp_path.iterdir())
    assert len(kept) == 1
    assert list(read().kept) == items
    assert read(packing=True).digest == first.digest == read(None).digest
    assert list(tmp_path.iterdir()) == kept
    (kept[0] / "tokens.i32").write_bytes(b"damaged")
    assert list(read().kept) == items


def test_processes_that_tokenise_the_same_rows_at_once_leave_each_other_theirs(
    items: Sequence[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the second begins and ends while the first still writes, and the third while the first puts its files."""
    here = os.getpid()

    def as_another(pid: int) -> None:
        monkeypatch.setattr(os, "getpid", lambda: pid)
        corpus.gather(iter(items), [len(items)], tmp_path / "rows")
        monkeypatch.setattr(os, "getpid", lambda: here)

    def slowly() -> Iterator[Item]:
        yield from items
        as_another(2)

    forget = shutil.rmtree

    def interrupted(place: Path, *more: Any, **options: Any) -> None:
        forget(place, *more, **options)
        if place.name == "rows" and os.getpid() == here:
            as_another(3)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    found = corpus.gather(slowly(), [len(items)], tmp_path / "rows")
    monkeypatch.undo()
    assert list(found) == list(corpus.load(tmp_path / "rows")) == list(items)
    assert [place.name for place in tmp_path.iterdir()] == ["rows"]


def test_first_fit_is_found_among_many_as_among_few() -> None:
    lengths = [(at * 37) % 90 + 5 for at in range(400)]
    left: list[int] = []
    bins: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        place = next((number for number, free in enumerate(left) if free >= lengths[at]), len(left))
        if place == len(left):
            left.append(128)
            bins.append([])
        left[place] -= lengths[at]
        bins[place].append(at)
    assert pack(lengths, 128) == [sorted(held) for held in bins]


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("config.json", {"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "NOT_CAUSAL"),
        ("config.json", {"is_encoder_decoder": True}, "NOT_CAUSAL"),
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}, "REMOTE_CODE"),
        ("modeling.py", None, "REMOTE_CODE"),
        ("pytorch_model.bin", None, "PICKLE_WEIGHTS"),
    ],
)
def test_a_base_that_is_no_safe_causal_model_is_refused_before_it_is_loaded(
    tmp_path: Path, file: str, change: dict[str, Any] | None, reason: str
) -> None:
    base = tiny_base(tmp_path / "base")
    check_base(base)
    if change is None:
        (base / file).write_bytes(b"x")
    else:
        (base / file).write_text(json.dumps({**json.loads((base / file).read_text()), **change}))
    with pytest.raises(FailedPrecondition) as caught:
        check_base(base)
    assert caught.value.reason == reason
