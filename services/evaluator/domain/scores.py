"""Scores with their passports: what may be subtracted from what, and with which interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.contracts.errors import FailedPrecondition
from libs.contracts.estimates import Estimate
from libs.statistics.corpus import CorpusEvidence, corpus_difference, corpus_estimate
from libs.statistics.means import bounded_mean
from libs.statistics.paired import PairedDifference, paired_difference
from libs.statistics.stratified import stratified_difference, stratified_mean
from services.evaluator.domain.answers import ENGINE_MODE, Arm
from services.evaluator.domain.metrics.core import Column
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
    """One metric of one arm over the items of a suite, with `groups` as clusters and their categories."""

    column: Column
    passport: Passport
    groups: tuple[str, ...]
    categories: tuple[str | None, ...] = ()

    def estimate(self, keep: Sequence[int] | None = None, mix: Mapping[str, float] | None = None) -> Estimate:
        """The value with its 95 % interval on items `keep`, as a `mix` of categories would have it where given."""
        if mix is not None:
            places, strata, groups = self._mixed(self.scored(keep), mix)
            return stratified_mean(self.values(places), strata, mix, groups).interval()
        places = self.scored(keep)
        groups = [self.groups[place] for place in places]
        if self.column.corpus is not None and self.column.statistics is not None:
            return corpus_estimate(self.column.statistics[places], self.column.corpus, groups).interval()
        return bounded_mean(self.values(places), groups).interval()

    def minus(
        self, other: "Score", keep: Sequence[int] | None = None, mix: Mapping[str, float] | None = None
    ) -> Difference:
        """The paired difference on the items that both have a score of, re-weighted to a `mix` of categories where
        asked. Raises Incomparable.
        """
        trouble = self.passport.incomparable(other.passport)
        if trouble is not None:
            raise Incomparable(trouble, field="passport")
        places = [place for place in self.scored(keep) if other.column.scores[place] is not None]
        groups = [self.groups[place] for place in places]
        mine, theirs = self.column, other.column
        if mix is not None:
            places, strata, groups = self._mixed(places, mix)
            return stratified_difference(self.values(places), other.values(places), strata, mix, groups).evidence
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

    def _mixed(self, places: Sequence[int], mix: Mapping[str, float]) -> tuple[list[int], list[str], list[str]]:
        """The places that stand for part of the mix, with their categories and groups."""
        kept = [(place, name) for place in places if (name := self.categories[place]) is not None and mix.get(name)]
        return [place for place, _ in kept], [name for _, name in kept], [self.groups[place] for place, _ in kept]

    def _value(self, place: int) -> float:
        value = self.column.scores[place]
        assert value is not None
        return value


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


def mix_of(items: Sequence[Item], traffic: Mapping[str, float]) -> dict[str, float] | None:
    """The mix that a suite may be re-weighted to; None where none of its items stands for any of the traffic."""
    present = {item.category for item in items}
    known = {name: share for name, share in traffic.items() if share > 0.0}
    return known if present.intersection(known) else None
