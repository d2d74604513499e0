"""The model card that travels with a version: what it is, what it was made from, how to load it."""

from pathlib import Path

from services.trainer.compute.reading import Items
from services.trainer.domain.protocol import Job

FILE = "README.md"


def write_card(job: Job, items: Items, curve: tuple[tuple[int, float], ...], directory: Path) -> None:
    """Write `README.md`; it holds nothing of the occasion, so that equal runs give equal bytes."""
    recipe = job.recipe
    rows = sum(len(item.sequences) if item.packed else 1 for item in items.kept)
    options = recipe.model_dump(mode="json", exclude_defaults=True)
    lines = [
        "---",
        "library_name: " + ("transformers" if recipe.method == "full" else "peft"),
        f"tags: [pawl, {recipe.method}]",
        "---",
        f"# {job.task or 'A task'}, trained by {recipe.method}",
        "",
        "| lineage | |",
        "|---|---|",
        f"| base | `{job.base_digest}` |",
        f"| dataset version | `{job.dataset_digest}` |",
        f"| run | `{job.run_id}` |",
        f"| continued from | {'an adapter' if job.continue_from else 'the base'} |",
        f"| rows | {rows} trained |",
        f"| rows left out | {items.too_long} over {recipe.max_length} tokens, {items.skipped} of no use here |",
        f"| trained tokens | {items.trained_share:.1%} of all: answers and the token that ends them |",
        f"| loss | {curve[0][1]:.4f} at the first step, {curve[-1][1]:.4f} at step {curve[-1][0]} |" if curve else "",
        "",
        "## Recipe",
        "",
        "Options that differ from the defaults; `pawl runs show` has the manifest with all of them.",
        "",
        "| option | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in sorted(options.items())),
        "",
        "## Use",
        "",
        _use(job),
        "",
        "How well it does is said by the evaluation report of this version, not here.",
    ]
    (directory / FILE).write_text("\n".join(line for line in lines if line is not None) + "\n")


def _use(job: Job) -> str:
    if job.recipe.method == "full":
        return "A directory that `transformers` and vLLM load as it is."
    if getattr(job.recipe, "dora", False):
        return "Loads in plain `peft` over the base named above. DoRA is served merged: `pawl runs export`."
    return "Loads in plain `peft`, and as a LoRA module in vLLM, over the base named above."
