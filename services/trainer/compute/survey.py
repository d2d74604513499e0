"""A run looked at before it is made: its rows, its mask, its steps, its memory."""

from pathlib import Path

from libs.contracts.errors import InvalidInput
from services.trainer.compute.bases import check_base, check_context, load_tokenizer, pad_of
from services.trainer.compute.corpus import Packed
from services.trainer.compute.examples import Example, Item
from services.trainer.compute.machine import Machine, environment, memory_total, peak_flops, peak_memory_bytes
from services.trainer.compute.mask import check_masks, check_text, show
from services.trainer.compute.methods import Language
from services.trainer.compute.reading import Items, pack, read_items
from services.trainer.compute.rows import read_rows
from services.trainer.compute.simulate import step_memory
from services.trainer.domain.plan import plan_run
from services.trainer.domain.protocol import MaskedRow, Survey, Surveyed
from services.trainer.domain.watch import pieces

_ANSWER_SHARE = 4


def look(survey: Survey, machine: Machine) -> Surveyed:
    """Survey a run. Raises what the run itself would be refused with, before anything is computed."""
    baseline = peak_memory_bytes()
    base = Path(survey.base)
    config = check_base(base)
    check_context(config, survey.recipe.max_length)
    tokenizer, stops = load_tokenizer(base)
    language = Language(tokenizer, stops, pad_of(tokenizer, stops))
    mask: list[MaskedRow] = []
    if survey.dataset is not None:
        file = Path(survey.dataset) / "train.jsonl"
        cache, replay = (Path(each) if each else None for each in (survey.cache, survey.replay))
        items = read_items(file, base, language, survey.recipe, cache, replay)
        check_masks(items.kept, language)
        check_text(read_rows(file), items.kept, language)
        mask = [row for item in items.kept[: survey.shown] for row in show(item, language)]
    else:
        items = _imagined(survey)
    lengths = [item.length for item in items.kept]
    plan = plan_run([item.item_id for item in items.kept], lengths, survey.recipe)
    batches = [batch for step in plan.steps for batch in step]
    shapes = [_shape([items.kept[at] for at in batch]) for batch in batches]
    # Of several processes each takes a part of every batch.
    parts = (pieces(batch, survey.recipe.processes)[0] for batch in batches)
    each = [_shape([items.kept[at] for at in part]) for part in parts] if survey.recipe.processes > 1 else shapes
    largest = max(each, key=lambda shape: shape[0] * shape[1] ** 2)
    here = memory_total(machine, survey.memory_limit_bytes)
    memory = step_memory(survey, machine, largest, survey.planned_memory or here) if survey.simulate else {}
    return Surveyed(
        rows=len(items.kept),
        too_long=items.too_long,
        skipped=items.skipped,
        mean_tokens=sum(lengths) / len(lengths),
        longest_tokens=max(lengths),
        trained_share=items.trained_share,
        total_steps=plan.total_steps,
        tokens=sum(lengths[at] for step in plan.steps for batch in step for at in batch),
        padded_tokens=sum(count * long for count, long, _ in shapes),
        parameters=memory.get("parameters", 0),
        trainable_parameters=memory.get("trainable", 0),
        memory={name: size for name, size in memory.items() if name not in ("parameters", "trainable")},
        mask=tuple(mask),
        baseline_bytes=baseline,
        memory_total=here,
        peak_flops=peak_flops(machine),
        environment=environment(machine),
    )


def _shape(items: list[Item]) -> tuple[int, int, int]:
    """Sequences, padded length and trained tokens of a batch."""
    if items[0].packed:
        count, long = len(items), max(item.length for item in items)
    else:
        count = sum(len(item.sequences) for item in items)
        long = max(len(sequence.tokens) for item in items for sequence in item.sequences)
    return count, -(-long // 8) * 8, sum(sum(sequence.trained) for item in items for sequence in item.sequences)


def _imagined(survey: Survey) -> Items:
    """Rows of the lengths told: most of the mean, one in twenty of the longest; a quarter of each is answer."""
    if not survey.rows or not survey.mean_tokens:
        raise InvalidInput("a plan needs a dataset version, or rows and their mean tokens to imagine", field="rows")
    longest = min(max(survey.longest_tokens, survey.mean_tokens), survey.recipe.max_length)
    mean = min(survey.mean_tokens, longest)
    pair = 2 if survey.recipe.method in ("dpo", "kto") else 1
    made, answered = [], 0
    for row in range(survey.rows):
        length = max(2, longest if row % 20 == 0 else mean)
        answer = max(1, length // _ANSWER_SHARE)
        answered += answer * pair
        one = Example(f"row-{row}", (0,) * length, (False,) * (length - answer) + (True,) * answer)
        made.append(Item(one.row_id, (one,) * pair))
    bins = pack([item.length for item in made], survey.recipe.max_length) if survey.recipe.packing else None
    share = answered / sum(item.length for item in made)
    return Items(Packed(made, bins) if bins is not None else made, 0, 0, "", share)
