"""Presidio itself behind our port, with a pipeline that knows two names: a model is brought, never fetched."""

import importlib
import sys
from pathlib import Path

import pytest

from services.curation.compute.personal import BothFinders, PatternFinder
from services.curation.compute.personal_presidio import PresidioFinder
from services.curation.domain.personal import Span

MODEL = "en_pawl_names"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A spaCy package that is installed as any other, and finds its names by rule."""
    pytest.importorskip("presidio_analyzer", reason="the extra presidio is not installed")
    import spacy

    pipeline = spacy.blank("en")
    pipeline.meta["name"] = MODEL.removeprefix("en_")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Ada Lovelace"}, {"label": "GPE", "pattern": "Ulm"}])
    pipeline.to_disk(tmp_path / MODEL)
    (tmp_path / MODEL / "__init__.py").write_text(
        "from pathlib import Path\nimport spacy\n\n\ndef load(**options):\n"
        "    return spacy.util.load_model_from_path(Path(__file__).parent, **options)\n"
    )
    told = tmp_path / f"{MODEL}-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {MODEL}\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    return MODEL


@pytest.mark.filterwarnings("default")
def test_names_and_places_come_from_presidio_and_numbers_from_our_patterns(model: str) -> None:
    text = "Ada Lovelace of Ulm pays with 4111 1111 1111 1111, ada@example.org"
    presidio = PresidioFinder(model=model)
    (alone,) = presidio.find([text])
    assert {Span(0, 12, "person"), Span(16, 19, "place")} <= set(alone)
    (both,) = BothFinders(PatternFinder(), presidio).find([text])
    assert [(text[each.start : each.end], each.kind) for each in both] == [
        ("Ada Lovelace", "person"),
        ("Ulm", "place"),
        ("4111 1111 1111 1111", "card"),
        ("ada@example.org", "email"),
    ]
    assert presidio.find([text], kinds=("place",)) == [[Span(16, 19, "place")]]
