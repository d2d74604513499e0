"""A search over a recipe: which options may be tried, and the recipe of a trial."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from libs.contracts.errors import InvalidInput
from libs.contracts.task import RecipeSpec
from libs.contracts.task.recipe import RangeSpec, SweepSpec, recipe_of

OPTIONS = (
    "learning_rate", "rank", "alpha", "dropout", "rslora", "warmup_steps", "batch_size", "gradient_accumulation",
    "epochs", "kl_to_base",
)  # fmt: skip
"""What changes how well a recipe learns and not what is measured: losses of two trials can be compared."""

Value = float | int | bool | str


def declared(recipe: RecipeSpec) -> SweepSpec:
    """The recipe's search, every corner of it a recipe. Raises InvalidInput naming what is not."""
    spec = recipe.sweep
    if spec is None:
        raise InvalidInput(
            "the recipe declares no search: give recipe.sweep.space the options to try", field="recipe.sweep"
        )
    known = [name for name in OPTIONS if name in type(recipe).model_fields]
    for name, held in spec.space.items():
        field = f"recipe.sweep.space.{name}"
        if name not in known:
            raise InvalidInput(f"{field} is nothing to try with {recipe.method}: {', '.join(known)} are", field=field)
        for value in (held.low, held.high) if isinstance(held, RangeSpec) else held:
            trial_of(recipe, {name: as_option(recipe, name, value)})
    return spec


def trial_of(recipe: RecipeSpec, values: Mapping[str, Value]) -> RecipeSpec:
    """The recipe with the values of a trial. Raises InvalidInput naming a value that is none."""
    fields = {**recipe.model_dump(mode="json"), **values, "sweep": None}
    if recipe.sweep is not None and recipe.sweep.max_steps is not None:
        fields["max_steps"] = recipe.sweep.max_steps
    try:
        return recipe_of(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][-1]) if first["loc"] else "recipe"
        raise InvalidInput(f"recipe.sweep.space: {name}: {first['msg']}", field=f"recipe.sweep.space.{name}") from error


def as_option(recipe: RecipeSpec, name: str, value: Value) -> Value:
    """A number from a range as the option takes it: whole where its value in the recipe is."""
    now: Any = getattr(recipe, name)
    whole = isinstance(now, int) and not isinstance(now, bool)
    return round(value) if whole and isinstance(value, float) else value
