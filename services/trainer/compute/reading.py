"""From a dataset version's file to the items of a run: read once, kept by digest, fitted to the recipe."""

import hashlib
import json
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task import RecipeSpec, Training
from services.trainer.compute.bases import identity
from services.trainer.compute.examples import Example, Item
from services.trainer.compute.methods import METHODS, Language
from services.trainer.compute.rows import read_rows

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Items:
    """What training sees; how many rows were too long for it, and how many of a kind the method does not learn from."""

    kept: tuple[Item, ...]
    too_long: int
    skipped: int
    digest: str

    @property
    def trained_share(self) -> float:
        """Share of tokens the loss is taken over."""
        total = sum(item.length for item in self.kept)
        return sum(sum(sequence.trained) for item in self.kept for sequence in item.sequences) / max(1, total)


def read_items(
    file: Path,
    base: Path,
    language: Language,
    recipe: RecipeSpec,
    cache: Path | None = None,
    replay: Path | None = None,
) -> Items:
    """The items of a split, in the order of the file, and after them the general rows drawn from `replay`.

    Raises FailedPrecondition: DATASET_EMPTY, NOTHING_FITS, TOO_MANY_DROPPED or what the method demands of rows;
    InvalidInput naming the line that is wrong.
    """
    items, rows = _tokenised(file, base, language, recipe, cache)
    if replay is not None and recipe.replay is not None:
        general, _ = _tokenised(replay / "train.jsonl", base, language, recipe, cache)
        drawn = drawn_for_replay(general, len(items), recipe.replay.share, recipe.seed)
        items, rows = [*items, *drawn], rows + len(drawn)
    digest = hashlib.sha256()
    for item in items:
        for sequence in item.sequences:
            digest.update(f"{item.item_id}\x1f{sequence.tokens}\x1f{sequence.trained}\x1e".encode())
    kept = [item for item in items if max(len(sequence.tokens) for sequence in item.sequences) <= recipe.max_length]
    too_long = len(items) - len(kept)
    _check_dropped(len(items), too_long, recipe)
    packed = pack(kept, recipe.max_length) if recipe.packing else kept
    return Items(tuple(packed), too_long, max(0, rows - len(items)), f"sha256:{digest.hexdigest()}")


def drawn_for_replay(general: Sequence[Item], rows: int, share: float, seed: int) -> list[Item]:
    """So many general items that they are `share` of the whole beside `rows` others: in their order, or all there are.

    Those too long for the recipe count towards it as any row does.
    """
    count = min(len(general), round(rows * share / (1 - share)))
    places = sorted(random.Random(f"pawl/replay/{seed}").sample(range(len(general)), count))
    return [_renamed(general[at], f"replay/{general[at].item_id}") for at in places]


def pack(items: Sequence[Item], room: int) -> list[Item]:
    """Items of several examples each, of at most `room` tokens: first fit, longest first (Johnson, 1973)."""
    bins: list[list[int]] = []
    left: list[int] = []
    for at in sorted(range(len(items)), key=lambda at: (-items[at].length, at)):
        need = items[at].length
        place = next((number for number, free in enumerate(left) if free >= need), None)
        if place is None:
            bins.append([])
            left.append(room)
            place = len(bins) - 1
        bins[place].append(at)
        left[place] -= need
    packed = []
    for held in bins:
        sequences = tuple(sequence for at in sorted(held) for sequence in items[at].sequences)
        packed.append(Item("+".join(sequence.row_id for sequence in sequences), sequences, packed=True))
    return packed


def _renamed(item: Item, name: str) -> Item:
    return replace(item, item_id=name, sequences=tuple(replace(each, row_id=name) for each in item.sequences))


def _check_dropped(total: int, too_long: int, recipe: Training) -> None:
    if not total:
        raise FailedPrecondition("the dataset version has no training rows", reason="DATASET_EMPTY")
    limit = f"longer than recipe.max_length = {recipe.max_length} tokens"
    if too_long == total:
        raise FailedPrecondition(
            f"all {too_long} training rows are {limit}", reason="NOTHING_FITS", field="recipe.max_length"
        )
    if too_long and recipe.long_rows == "refuse":
        raise FailedPrecondition(
            f"{too_long} of {total} rows are {limit} and recipe.long_rows is refuse: raise the length or drop them",
            reason="ROWS_TOO_LONG", field="recipe.max_length",
        )  # fmt: skip
    if too_long / total > recipe.max_dropped:
        raise FailedPrecondition(
            f"{too_long} of {total} rows are {limit}: more than recipe.max_dropped = {recipe.max_dropped:g} allows; "
            "raise recipe.max_length",
            reason="TOO_MANY_DROPPED", field="recipe.max_length",
        )  # fmt: skip


def _tokenised(
    file: Path, base: Path, language: Language, recipe: RecipeSpec, cache: Path | None
) -> tuple[list[Item], int]:
    key = hashlib.sha256(json.dumps([_FORMAT, _reader(recipe), identity(base), sorted(language.stops)]).encode())
    if cache is None or not file.is_file():
        return _read(file, language, recipe)
    with file.open("rb") as opened:
        key.update(hashlib.file_digest(opened, "sha256").digest())
    kept = cache / f"{key.hexdigest()}.npz"
    try:
        found = _load(kept)
        os.utime(kept)
        return found
    except (OSError, ValueError, KeyError):
        items, rows = _read(file, language, recipe)
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f".{kept.name}-{os.getpid()}"
    with partial.open("wb") as opened:
        _store(opened, items, rows)
    partial.replace(kept)
    return items, rows


def _reader(recipe: RecipeSpec) -> str:
    return METHODS[recipe.method].read.__name__


def _read(file: Path, language: Language, recipe: RecipeSpec) -> tuple[list[Item], int]:
    rows = 0

    def counted() -> Iterable[object]:
        nonlocal rows
        for row in read_rows(file):
            rows += 1
            yield row

    items = list(METHODS[recipe.method].read(counted(), language))  # type: ignore[arg-type]
    return items, rows


def _store(opened: object, items: Sequence[Item], rows: int) -> None:
    sequences = [sequence for item in items for sequence in item.sequences]
    about = {
        "rows": rows,
        "items": [[item.item_id, len(item.sequences), item.good] for item in items],
        "ids": [sequence.row_id for sequence in sequences],
    }
    np.savez(
        opened,  # type: ignore[arg-type]
        about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
        lengths=np.array([len(sequence.tokens) for sequence in sequences], dtype=np.int64),
        tokens=np.array([token for sequence in sequences for token in sequence.tokens], dtype=np.int32),
        trained=np.array([on for sequence in sequences for on in sequence.trained], dtype=np.bool_),
    )


def _load(file: Path) -> tuple[list[Item], int]:
    with np.load(file, allow_pickle=False) as held:
        about = json.loads(held["about"].tobytes())
        tokens, trained = held["tokens"].tolist(), held["trained"].tolist()
        ends = held["lengths"].cumsum().tolist()
    sequences, start = [], 0
    for row_id, end in zip(about["ids"], ends, strict=True):
        sequences.append(Example(row_id, tuple(tokens[start:end]), tuple(trained[start:end])))
        start = end
    items, at = [], 0
    for item_id, count, good in about["items"]:
        items.append(Item(item_id, tuple(sequences[at : at + count]), good=good))
        at += count
    return items, int(about["rows"])
