"""What a job reads and checks before a weight is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.contracts.errors import FailedPrecondition
from services.trainer.compute.bases import check_base, check_context, load_tokenizer, pad_of
from services.trainer.compute.examples import Item
from services.trainer.compute.mask import check_masks, check_text
from services.trainer.compute.methods import Language
from services.trainer.compute.reading import Items, read_items
from services.trainer.compute.rows import read_rows
from services.trainer.domain.protocol import Job


@dataclass(frozen=True, slots=True)
class Inputs:
    """Rows to train on, rows held out, and how text becomes tokens; `context` is what the base can place."""

    language: Language
    items: Items
    held_out: tuple[Item, ...]
    context: int


def read_inputs(job: Job) -> Inputs:
    """Read and check everything. Raises FailedPrecondition or InvalidInput with the mend."""
    base = Path(job.base)
    config = check_base(base)
    check_context(config, job.recipe.max_length)
    tokenizer, stops = load_tokenizer(base)
    language = Language(tokenizer, stops, pad_of(tokenizer, stops))
    file = Path(job.dataset) / "train.jsonl"
    cache = Path(job.cache) if job.cache else None
    items = read_items(file, base, language, job.recipe, cache, Path(job.replay) if job.replay else None)
    check_masks(items.kept, language)
    check_text(read_rows(file), items.kept, language)
    return Inputs(language, items, _held_out(job, language, cache), _context(config))


def _held_out(job: Job, language: Language, cache: Path | None) -> tuple[Item, ...]:
    file = Path(job.dataset) / "validation.jsonl"
    if not file.is_file() or not file.stat().st_size:
        return ()
    try:
        read = read_items(file, Path(job.base), language, job.recipe, cache).kept
    except FailedPrecondition:
        # A split that holds nothing for this method measures nothing; the training rows decide about the run.
        return ()
    return tuple(sorted(read, key=lambda item: item.item_id)[: job.recipe.validation.max_rows])


def _context(config: dict[str, Any]) -> int:
    inner = config.get("text_config") or config
    return int(inner.get("max_position_embeddings") or inner.get("n_positions") or 1 << 20)
