"""From a dataset version's file to the items of a run: read once, kept by digest, fitted to the recipe."""

import hashlib
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task import RecipeSpec, Training
from services.trainer.compute import corpus
from services.trainer.compute.bases import identity
from services.trainer.compute.corpus import Chosen, Corpus, Packed, Part
from services.trainer.compute.examples import Item
from services.trainer.compute.methods import METHODS, Language
from services.trainer.compute.rows import Row, read_rows

_FORMAT = 3


@dataclass(frozen=True, slots=True)
class Items:
    """What training sees; how many rows were too long for it, and how many of a kind the method does not learn from.

    `trained_share` is the share of tokens that the loss is taken over.
    """

    kept: Sequence[Item]
    too_long: int
    skipped: int
    digest: str
    trained_share: float


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
    own = _tokenised(file, base, language, recipe, cache)
    parts, rows = [Part(own, np.arange(len(own)))], own.rows
    if replay is not None and recipe.replay is not None:
        general = _tokenised(replay / "train.jsonl", base, language, recipe, cache)
        drawn = drawn_for_replay(len(general), len(own), recipe.replay.share, recipe.seed)
        parts.append(Part(general, np.asarray(drawn, np.int64), "replay/"))
        rows += len(drawn)
    total = sum(len(part.places) for part in parts)
    digest = _digest_of(parts)
    fitting = [
        Part(part.corpus, part.places[part.corpus.longest[part.places] <= recipe.max_length], part.prefix)
        for part in parts
    ]
    kept: Sequence[Item] = Chosen(fitting)
    too_long = total - len(kept)
    _check_dropped(total, too_long, recipe)
    share = _trained_share(fitting)
    if recipe.packing:
        lengths = [int(length) for part in fitting for length in part.corpus.lengths[part.places]]
        kept = Packed(kept, pack(lengths, recipe.max_length))
    return Items(kept, too_long, max(0, rows - total), digest, share)


def drawn_for_replay(general: int, rows: int, share: float, seed: int) -> list[int]:
    """Places of so many of `general` items that they are `share` of the whole beside `rows` others, or of all.

    Those too long for the recipe count towards it as any row does.
    """
    count = min(general, round(rows * share / (1 - share)))
    return sorted(random.Random(f"pawl/replay/{seed}").sample(range(general), count))


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Places of what goes together into at most `room` tokens: first fit, longest first (Johnson, 1973)."""
    width = 1 << max(0, len(lengths) - 1).bit_length()
    # The most that any bin below a node has left; a bin that is not begun has all of it.
    most = [room] * (2 * width)
    bins: list[list[int]] = [[] for _ in lengths]
    for at in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        node = 1
        while node < width:
            node = 2 * node if most[2 * node] >= lengths[at] else 2 * node + 1
        bins[node - width].append(at)
        most[node] -= lengths[at]
        while node > 1:
            node //= 2
            most[node] = max(most[2 * node], most[2 * node + 1])
    return [sorted(held) for held in bins if held]


def _digest_of(parts: Sequence[Part]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for at in part.places.tolist():
            tokens, trained = part.corpus.stretch(at)
            digest.update(f"{part.prefix}{part.corpus.name_of(at)}\x1f{len(tokens)}\x1f".encode())
            digest.update(tokens.tobytes())
            digest.update(trained.tobytes())
    return f"sha256:{digest.hexdigest()}"


def _trained_share(parts: Sequence[Part]) -> float:
    total = sum(int(part.corpus.lengths[part.places].sum()) for part in parts)
    trained = sum(int(part.corpus.stretch(at)[1].sum()) for part in parts for at in part.places.tolist())
    return trained / max(1, total)


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


def _tokenised(file: Path, base: Path, language: Language, recipe: RecipeSpec, cache: Path | None) -> Corpus:
    if cache is None or not file.is_file():
        return _read(file, language, recipe, None)
    key = hashlib.sha256(json.dumps([_FORMAT, _reader(recipe), identity(base), sorted(language.stops)]).encode())
    with file.open("rb") as opened:
        key.update(hashlib.file_digest(opened, "sha256").digest())
    kept = cache / key.hexdigest()
    try:
        found = corpus.load(kept)
        os.utime(kept)
        return found
    except (OSError, ValueError, KeyError):
        return _read(file, language, recipe, kept)


def _reader(recipe: RecipeSpec) -> str:
    return METHODS[recipe.method].read.__name__


def _read(file: Path, language: Language, recipe: RecipeSpec, cache: Path | None) -> Corpus:
    count = [0]

    def counted() -> Iterator[Row]:
        for row in read_rows(file):
            count[0] += 1
            yield row

    return corpus.gather(METHODS[recipe.method].read(counted(), language), count, cache)
