"""What a task's settings choose among: the engine that sketches, the finder of personal data, the embeddings."""

import os
from collections.abc import Sequence

from libs.contracts.task import TaskSpec
from services.curation.compute.near import Sketcher
from services.curation.compute.near_daft import daft_sketcher
from services.curation.compute.near_sketch import sketch
from services.curation.compute.personal import BothFinders, PatternFinder
from services.curation.compute.personal_presidio import PresidioFinder
from services.curation.compute.semantic import Embeddings, StaticEmbeddings
from services.curation.compute.semantic_endpoint import EndpointEmbeddings
from services.curation.domain.personal import Finder
from services.curation.domain.rows import Row, asked

_KEY = "PAWL_CURATION_MODEL_KEY"


def sketcher_of(spec: TaskSpec) -> Sketcher:
    """Where texts are sketched; what comes of it is the same everywhere. FailedPrecondition without the extra."""
    if spec.data.engine == "local":
        return sketch
    return daft_sketcher(address="auto" if spec.data.engine == "ray" else None)


def finder_of(spec: TaskSpec) -> Finder:
    """Who finds personal data. FailedPrecondition where presidio is asked for and is not there."""
    if spec.data.curation.personal == "patterns":
        return PatternFinder()
    return BothFinders(PatternFinder(), PresidioFinder())


def duplicates_of(spec: TaskSpec, rows: Sequence[Row], erased: frozenset[str]) -> Embeddings | None:
    """What semantic duplicates are told by, where the policy asks for them: one measure for all steps of a build.

    Fitted on the rows as they came in, but for those of erased users.
    """
    if spec.data.duplicates.semantic is None:
        return None
    return StaticEmbeddings.fit([asked(row) for row in rows if erased.isdisjoint((row.user, row.subject))])


def embeddings_of(spec: TaskSpec, texts: Sequence[str]) -> list[Embeddings]:
    """Embeddings fitted on the texts, and those of the endpoint where the task names one."""
    asked = spec.data.curation.leakage.embeddings
    found: list[Embeddings] = [StaticEmbeddings.fit(texts)]
    if asked is not None:
        found.append(EndpointEmbeddings(asked.url, asked.model, key=os.environ.get(_KEY, "")))
    return found
