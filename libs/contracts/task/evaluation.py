"""What a candidate is proven on: suites, metrics, arms, prices and the gates it must pass."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from libs.contracts.ids import DIGEST_PATTERN, NAME_PATTERN
from libs.contracts.task.section import Fraction, Probability, Section

MIN_ITEMS = 60
"""Below this many items no interval of ours is shown to cover; a gate may not be told to do with fewer."""
METRIC_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
TASK_SUITE = "task"
BUILT_IN_METRICS = ("exact_match", "json_valid")
DEFAULT_ARMS = ("base", "fine_tuned", "stable")
UNTRAINED = ("base", "prompt", "retrieval", "external")
"""Kinds of arms that need no training: what a fine-tune must be worth more than."""


class AdmissionSpec(Section):
    """Which feedback may enter the frozen gate suite (as a new suite version), so that poison cannot judge itself."""

    sources: tuple[str, ...] = ()


class SuiteSpec(Section):
    """The gate suite: the test split of the first dataset version, frozen; extended only by admission."""

    max_items: int = Field(400, ge=10)
    min_items: int = Field(MIN_ITEMS, ge=MIN_ITEMS, description="a gate on fewer items is inconclusive")
    admit: AdmissionSpec = AdmissionSpec()


class EndpointSpec(Section):
    """An OpenAI-compatible endpoint. Its key stays in the evaluator's environment; here stands its variable's name."""

    url: str = Field(pattern=r"^https?://[^\s@]+$", description="up to and without /chat/completions or /embeddings")
    model: str = Field(min_length=1, max_length=200)
    key_env: str | None = Field(None, pattern=r"^[A-Z][A-Z0-9_]{0,99}$")
    seconds: float = Field(60.0, gt=0.0, le=600.0, description="deadline of one call")
    concurrency: int = Field(8, ge=1, le=256)


_METRIC_FIELDS: dict[str, frozenset[str]] = {
    "exact_match": frozenset(),
    "json_valid": frozenset(),
    "json_fields": frozenset({"path"}),
    "token_f1": frozenset(),
    "bleu": frozenset({"tokenizer"}),
    "chrf": frozenset({"word_order"}),
    "rouge": frozenset({"variant", "tokenizer"}),
    "numeric": frozenset({"tolerance", "pattern", "path"}),
    "regex": frozenset({"pattern"}),
    "edit_similarity": frozenset(),
    "refusal": frozenset({"pattern"}),
    "embedding": frozenset({"endpoint"}),
    "judge": frozenset({"endpoint", "rubric", "campaign"}),
    "judge_pairwise": frozenset({"endpoint", "rubric", "against", "campaign"}),
    "plugin": frozenset({"plugin", "options", "seconds"}),
}
_METRIC_NEEDS: dict[str, tuple[str, ...]] = {
    "regex": ("pattern",),
    "embedding": ("endpoint",),
    "judge": ("endpoint", "rubric"),
    "judge_pairwise": ("endpoint", "rubric", "against"),
    "plugin": ("plugin",),
}


_FIELDS_OF_ITEMS = frozenset({"text", "error", "unscored", "reused_from"})
_FIELDS_OF_EXAMPLES = frozenset({"item_id", "category", "input", "answer", "difference"})
"""Names that stand beside those of metrics, or of arms, in a report."""


class MetricSpec(Section):
    """How an answer is scored, in [0, 1], more is better. `name` is what gates and reports call it."""

    name: str = Field(pattern=METRIC_PATTERN)
    kind: Literal[
        "exact_match", "json_valid", "json_fields", "token_f1", "bleu", "chrf", "rouge", "numeric", "regex",
        "edit_similarity", "refusal", "embedding", "judge", "judge_pairwise", "plugin",
    ]  # fmt: skip
    tokenizer: Literal["13a", "intl", "char", "none", "ascii", "unicode"] | None = Field(
        None, description="bleu: 13a, intl, char or none; rouge: ascii (the reference's) or unicode"
    )
    variant: Literal["1", "2", "3", "L", "Lsum"] | None = Field(None, description="of ROUGE; L by default")
    word_order: int | None = Field(None, ge=0, le=2, description="of chrF; 2 is chrF++")
    pattern: str | None = Field(None, max_length=2000, description="regex; for numeric its first group is the number")
    path: str | None = Field(None, description="json_fields, numeric: one field, such as entities.asset")
    tolerance: float | None = Field(None, ge=0.0, description="numeric: relative error allowed")
    rubric: str | None = Field(None, max_length=8000)
    against: str | None = Field(None, description="judge_pairwise: the arm that each other one is compared with")
    campaign: str | None = Field(
        None, max_length=120, description="judges: the campaign whose votes calibrate it; a gate needs that"
    )
    endpoint: EndpointSpec | None = None
    plugin: str | None = Field(None, description="name of an entry point of the group pawl.metrics")
    options: dict[str, Any] | None = None
    seconds: float | None = Field(None, gt=0.0, le=600.0, description="plugin: deadline of one score; 10 by default")

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_kind(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "kind": value}
        return {"name": value["kind"], **value} if isinstance(value, dict) and "kind" in value else value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        allowed = _METRIC_FIELDS[self.kind] | {"name", "kind"}
        for name in type(self).model_fields:
            if name not in allowed and getattr(self, name) is not None:
                raise ValueError(f"a {self.kind} metric takes no '{name}'")
        if self.name in _FIELDS_OF_ITEMS:
            raise ValueError(f"a metric cannot be called {self.name!r}: a report's items have a field of that name")
        for name in _METRIC_NEEDS.get(self.kind, ()):
            if getattr(self, name) is None:
                raise ValueError(f"a {self.kind} metric needs '{name}'")
        return self


class ArmSpec(Section):
    """One contender of an evaluation.

    base, fine_tuned, stable: the versions themselves. prompt: a version with its own system prompt and `shots` examples
    of the train split, those most like the question. retrieval: a version shown the `passages` most like the question.
    external: any OpenAI-compatible model. `asks` says which version a prompt or retrieval arm asks.
    """

    name: str = Field(pattern=METRIC_PATTERN)
    kind: Literal["base", "fine_tuned", "stable", "prompt", "retrieval", "external"]
    asks: Literal["base", "fine_tuned", "stable"] = "base"
    system: str | None = Field(None, max_length=16_384, description="in place of the task's system prompt")
    shots: int = Field(0, ge=0, le=64)
    passages: int = Field(3, ge=1, le=32)
    endpoint: EndpointSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_kind(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "kind": value}
        return {"name": value["kind"], **value} if isinstance(value, dict) and "kind" in value else value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind in DEFAULT_ARMS and self.name != self.kind:
            raise ValueError(f"an arm of kind {self.kind} is called {self.kind}")
        if self.name in _FIELDS_OF_EXAMPLES:
            raise ValueError(f"an arm cannot be called {self.name!r}: a report's examples have a field of that name")
        if (self.kind == "external") != (self.endpoint is not None):
            raise ValueError("an external arm needs 'endpoint', and no other arm takes one")
        if self.kind == "prompt" and not self.shots and self.system is None:
            raise ValueError("a prompt arm needs 'shots' or 'system': without either it is the bare version")
        return self


class VariantSpec(Section):
    """A disturbance of the owner's own for edge items: what a question becomes, in another language for instance.

    Each of `says` holds {text}, the question, or {names} of the groups of `match`, which tells the questions that it
    fits as a whole. The right answer stays, but for an `open` one, which has none.
    """

    name: str = Field(pattern=METRIC_PATTERN)
    match: str | None = Field(None, max_length=2000, description="a regular expression; none fits every question")
    says: tuple[Annotated[str, Field(min_length=1, max_length=16_384)], ...] = Field(min_length=1)
    open: bool = False

    @model_validator(mode="after")
    def _names_what_there_is(self) -> Self:
        try:
            groups = {"text", *(re.compile(self.match).groupindex if self.match is not None else ())}
        except re.error as error:
            raise ValueError(f"{self.match!r} is no regular expression: {error}") from error
        for told in self.says:
            unknown = sorted(set(re.findall(r"\{([a-z_][a-z0-9_]*)\}", told)) - groups)
            if unknown:
                raise ValueError(f"'{{{unknown[0]}}}' is neither {{text}} nor a group of 'match' in {told!r}")
        return self


class ExtraSuiteSpec(Section):
    """A suite beside the task's own.

    general: a small built-in one of copying, key look-up and JSON form. edge: items of the task suite with typos,
    injections, other languages and scripts, format attacks, nothing or very much around them, and the owner's own
    `variants`; the right answer stays. safety: what
    a model should refuse, and harmless look-alikes it should not. items: a file of the task's own, lines as in a suite.
    harness: tasks of lm-eval, offline, from a directory of their YAML files and data.
    """

    name: str = Field(pattern=METRIC_PATTERN)
    kind: Literal["general", "edge", "safety", "items", "harness"]
    items: int = Field(120, ge=1, le=100_000, description="at most so many")
    seed: int = 0
    file: str | None = Field(None, description="items: a file, harness: a directory, beside the task file; or a digest")
    attacks: tuple[str, ...] = Field((), description="edge: which kinds; empty means all")
    variants: tuple[VariantSpec, ...] = Field((), description="edge: kinds of the task's own, beside those")
    tasks: tuple[str, ...] = Field((), description="harness: names of lm-eval tasks")
    arms: tuple[str, ...] = Field(DEFAULT_ARMS, min_length=1)
    system: str = Field("Follow the request.", description="general, safety: the system prompt it is asked under")

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_kind(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "kind": value}
        return {"name": value["kind"], **value} if isinstance(value, dict) and "kind" in value else value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.name == TASK_SUITE:
            raise ValueError(f"'{TASK_SUITE}' is the name of the task's own suite")
        if (self.kind in ("items", "harness")) != (self.file is not None):
            raise ValueError("a suite of kind items or harness needs 'file', and no other takes one")
        if (self.kind == "harness") != bool(self.tasks):
            raise ValueError("a suite of kind harness needs 'tasks', and no other takes them")
        if self.kind != "edge" and self.variants:
            raise ValueError("only a suite of kind edge takes 'variants'")
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError("two variants share a name")
        return self


class PriceSpec(Section):
    """What a million tokens cost; any one currency, the same for all arms."""

    input: float = Field(ge=0.0)
    output: float = Field(ge=0.0)


class GateSpec(Section):
    """A rule on a report.

    superiority: the paired difference to `against` exceeds `margin` (interval above it).
    non_inferiority: the paired difference exceeds `-margin`. floor: the metric itself exceeds `at_least`.
    `slice` holds it to one category of the suite; `weighted` weighs the categories as traffic does.
    """

    name: str = Field(pattern=NAME_PATTERN)
    kind: Literal["superiority", "non_inferiority", "floor"]
    metric: str = Field("exact_match", pattern=METRIC_PATTERN)
    against: str | None = Field(None, pattern=METRIC_PATTERN, description="an arm: base, stable, prompt...")
    suite: str = Field(TASK_SUITE, pattern=METRIC_PATTERN)
    slice: str | None = Field(None, max_length=200)
    weighted: bool = False
    margin: Fraction = 0.0
    at_least: Fraction | None = None
    alpha: Probability = 0.05

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "floor" and self.at_least is None:
            raise ValueError("a floor gate needs 'at_least'")
        if self.kind != "floor" and self.against is None:
            raise ValueError(f"a {self.kind} gate needs 'against' (base or stable, or another arm)")
        if self.kind == "non_inferiority" and self.margin == 0.0:
            raise ValueError("a non_inferiority gate needs a 'margin' above 0")
        if self.slice is not None and self.weighted:
            raise ValueError("a gate on one slice has nothing to weigh")
        if self.weighted and (self.kind == "floor" or self.suite != TASK_SUITE):
            raise ValueError("only a difference on the task's own suite can be weighed by traffic")
        return self


class EvaluationSpec(Section):
    """Suites, metrics, arms, gates and prices."""

    suite: SuiteSpec = SuiteSpec()
    gates: tuple[GateSpec, ...] = (GateSpec(name="better-than-base", kind="superiority", against="base"),)
    metrics: tuple[MetricSpec, ...] = Field((), description="beside exact_match and, for JSON, json_valid")
    arms: tuple[ArmSpec, ...] = tuple(ArmSpec.model_validate(name) for name in DEFAULT_ARMS)
    suites: tuple[ExtraSuiteSpec, ...] = ()
    documents: str | None = Field(
        None, description="a directory of text beside the task file, or its digest: what retrieval arms search"
    )
    traffic: dict[str, float] = Field(
        default_factory=dict, description="share of traffic per category; empty: as seen in production, if known"
    )
    prices: dict[str, PriceSpec] = Field(default_factory=dict, description="per arm")
    primary: str = Field("exact_match", description="the metric that the recommendation weighs")
    close_enough: Fraction = Field(0.02, description="a simpler arm this close to the best is recommended before it")
    repeat_items: int = Field(40, ge=0, description="items that each arm answers twice, to know the noise; 0: none")
    concurrency: int = Field(96, ge=1, le=256, description="answers wanted at once, at low priority")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        metrics = [*BUILT_IN_METRICS, *(metric.name for metric in self.metrics)]
        arms, suites = [arm.name for arm in self.arms], [TASK_SUITE, *(suite.name for suite in self.suites)]
        for what, names in (("metrics", metrics), ("arms", arms), ("suites", suites)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {what} are called {twice[0]!r}")
        if "fine_tuned" not in arms:
            raise ValueError("'arms' must name fine_tuned: it is what is judged")
        if self.documents is None and any(arm.kind == "retrieval" for arm in self.arms):
            raise ValueError("a retrieval arm needs 'documents'")
        for gate in self.gates:
            self._check_gate(gate, metrics, arms, suites)
        for suite in self.suites:
            for name in suite.arms:
                _known(name, [*arms, *DEFAULT_ARMS], f"suite {suite.name!r}: no arm")
        for metric in self.metrics:
            if metric.against is not None:
                _known(metric.against, arms, f"metric {metric.name!r}: no arm")
        _known(self.primary, metrics, "'primary': no metric")
        return self

    def _check_gate(self, gate: GateSpec, metrics: list[str], arms: list[str], suites: list[str]) -> None:
        _known(gate.suite, suites, f"gate {gate.name!r}: no suite")
        _known(gate.metric, [*metrics, *_OF_SUITES], f"gate {gate.name!r}: no metric")
        if gate.against is not None:
            _known(gate.against, arms, f"gate {gate.name!r}: no arm")
            if gate.against == "fine_tuned":
                raise ValueError(f"gate {gate.name!r}: fine_tuned cannot be compared with itself")


_OF_SUITES = ("refusal", "harness")
"""Metrics that a suite brings with it."""


def is_digest(value: str) -> bool:
    """Whether a file or directory of the task file has become the digest of what was uploaded."""
    return re.match(DIGEST_PATTERN, value) is not None


def _known(name: str, names: list[str], what: str) -> None:
    if name not in names:
        raise ValueError(f"{what} {name!r}; there are {', '.join(dict.fromkeys(names))}")
