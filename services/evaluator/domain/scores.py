"""Scores with their passports: what may be subtracted from what, and with which interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from libs.contracts.errors import FailedPrecondition
from libs.contracts.estimates import Estimate
from libs.statistics.corpus import CorpusEvidence, corpus_difference, corpus_estimate
from libs.statistics.means import bounded_mean
from libs.statistics.paired import PairedDifference, paired_difference
from services.evaluator.domain.answers import ENGINE_MODE, Arm
from services.evaluator.domain.metrics.core import Array, Column
from services.evaluator.domain.metrics.sums import ratio
from services.evaluator.domain.suite import Item

Difference = PairedDifference | CorpusEvidence


class Incomparable(FailedPrecondition):
    """Two scores that must not be subtracted."""

    default_reason = "INCOMPARABLE"


@dataclass(frozen=True, slots=True)
class Passport:
    """Everything that a score depends on beside the model. Digests that an outside model does not tell are empty."""

    signature: str
    suite_digest: str
    max_tokens: int
    engine: str = ENGINE_MODE
    bases: tuple[str, ...] = ()
    tokenizers: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()

    def incomparable(self, other: "Passport") -> str | None:
        """Why two scores must not be subtracted, or None.

        Scores of our own engine must come from one tokenizer and template, for a changed template alone moves scores by
        points; and those of an arm from one base, which two arms need not share: where every weight was trained, the
        version is a base of its own. A model outside has its own by nature; there whole systems are compared.
        """
        for what, mine, theirs in (
            ("metric signature", self.signature, other.signature),
            ("suite", self.suite_digest, other.suite_digest),
            ("max_tokens", self.max_tokens, other.max_tokens),
        ):
            if mine != theirs:
                return f"different values of {what}: {mine} and {theirs}"
        if self.engine == other.engine == ENGINE_MODE:
            for what, seen in (
                ("base", {*self.bases}),
                ("base", {*other.bases}),
                ("tokenizer", {*self.tokenizers, *other.tokenizers}),
                ("template", {*self.templates, *other.templates}),
            ):
                if len(seen) > 1:
                    told = ", ".join(sorted(seen))
                    return f"answers come from {len(seen)} different values of {what}_digest: {told}"
        return None


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one arm over the items of a suite, with `groups` as clusters."""

    column: Column
    passport: Passport
    groups: tuple[str, ...]

    def estimate(self, keep: Sequence[int] | None = None, weights: Sequence[float] | None = None) -> Estimate:
        """The value with its 95 % interval on items `keep`, weighed by `weights` (one per item) where given."""
        places = self.scored(keep)
        groups = [self.groups[place] for place in places]
        if weights is not None:
            return _sized(corpus_estimate(self.weighed(places, weights), ratio, groups), places, weights).interval()
        if self.column.corpus is not None and self.column.statistics is not None:
            return corpus_estimate(self.column.statistics[places], self.column.corpus, groups).interval()
        return bounded_mean(self.values(places), groups).interval()

    def minus(
        self, other: "Score", keep: Sequence[int] | None = None, weights: Sequence[float] | None = None
    ) -> Difference:
        """The paired difference on the items that both have a score of, weighed where asked. Raises Incomparable."""
        trouble = self.passport.incomparable(other.passport)
        if trouble is not None:
            raise Incomparable(trouble, field="passport")
        places = [place for place in self.scored(keep) if other.column.scores[place] is not None]
        groups = [self.groups[place] for place in places]
        mine, theirs = self.column, other.column
        if weights is not None:
            found = corpus_difference(self.weighed(places, weights), other.weighed(places, weights), ratio, groups)
            return _sized(found, places, weights)
        if mine.corpus is not None and mine.statistics is not None and theirs.statistics is not None:
            return corpus_difference(mine.statistics[places], theirs.statistics[places], mine.corpus, groups)
        return paired_difference(self.values(places), other.values(places), groups)

    def values(self, places: Sequence[int]) -> list[float]:
        """Scores of items that have one."""
        return [self._value(place) for place in places]

    def scored(self, keep: Sequence[int] | None = None) -> list[int]:
        """Places of the items that have a score."""
        wanted = range(len(self.groups)) if keep is None else keep
        return [place for place in wanted if self.column.scores[place] is not None]

    def missing(self, keep: Sequence[int] | None = None) -> int:
        """How many items have no score."""
        wanted = range(len(self.groups)) if keep is None else keep
        return len(wanted) - len(self.scored(keep))

    def weighed(self, places: Sequence[int], weights: Sequence[float]) -> Array:
        """Columns (weight * score, weight) of some items, shape (n, 2)."""
        columns = [[weights[place] * self._value(place), weights[place]] for place in places]
        rows: Array = np.array(columns, dtype=np.float64).reshape(-1, 2)
        return rows

    def _value(self, place: int) -> float:
        value = self.column.scores[place]
        assert value is not None
        return value


def _sized(evidence: CorpusEvidence, places: Sequence[int], weights: Sequence[float]) -> CorpusEvidence:
    """Evidence that knows how few items carry its weight (effective sample size: Kish 1965, section 11.7)."""
    kept = [weights[place] for place in places]
    squares = sum(weight * weight for weight in kept)
    return replace(evidence, n=int(sum(kept) ** 2 / squares + 1e-9) if squares else 0)


def passport(arm: Arm, signature: str, suite_digest: str, max_tokens: int) -> Passport:
    """The passport of one arm's scores by one metric."""

    def seen(what: str) -> tuple[str, ...]:
        found = {getattr(answer.provenance, what) for answer in arm.answers.values() if not answer.error}
        return tuple(sorted(found - {""}))

    return Passport(
        signature=signature,
        suite_digest=suite_digest,
        max_tokens=max_tokens,
        engine=arm.engine or ENGINE_MODE,
        bases=seen("base_digest"),
        tokenizers=seen("tokenizer_digest"),
        templates=seen("template_digest"),
    )


def slices_of(items: Sequence[Item]) -> dict[str, list[int]]:
    """Places of the items of each category, by name."""
    members: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        if item.category is not None:
            members.setdefault(item.category, []).append(place)
    return {name: members[name] for name in sorted(members)}


def traffic_weights(items: Sequence[Item], traffic: Mapping[str, float]) -> list[float] | None:
    """Weight per item such that each category weighs what it weighs in traffic; None without a common category."""
    members = slices_of(items)
    covered = {name: share for name, share in traffic.items() if share > 0.0 and name in members}
    total = sum(covered.values())
    if not total:
        return None
    return [
        covered.get(item.category or "", 0.0) / total * len(items) / len(members.get(item.category or "", [0]))
        for item in items
    ]
