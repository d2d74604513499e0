"""Presidio behind the same port as our patterns: for names and places, where its models are vendored.

Needs the extra `presidio`, and for names a spaCy model that is installed beside it: none is ever fetched.
"""

from collections.abc import Collection, Sequence
from typing import Any

from libs.contracts.errors import FailedPrecondition
from services.curation.domain.personal import KINDS, NAMES, Span

_KINDS = {
    "CREDIT_CARD": "card", "EMAIL_ADDRESS": "email", "IBAN_CODE": "iban", "IP_ADDRESS": "ip", "PHONE_NUMBER": "phone",
    "US_SSN": "ssn", "URL": "url", "DATE_TIME": "date", "US_DRIVER_LICENSE": "licence", "PERSON": "person",
    "LOCATION": "place",
}  # fmt: skip
_LEAST = 0.5


class PresidioFinder:
    """Implements `domain.personal.Finder`; adds the kinds `person` and `place`.

    `model` names an installed spaCy package; FailedPrecondition where presidio or the model is not there.
    """

    def __init__(self, language: str = "en", *, model: str = "en_core_web_sm", least: float = _LEAST) -> None:
        try:
            import spacy.util
            from presidio_analyzer import AnalyzerEngine
            from presidio_analyzer.nlp_engine import NlpEngineProvider
        except ImportError as error:
            raise FailedPrecondition(f"presidio is not installed ({error}): install the extra presidio") from error
        if not spacy.util.is_package(model):
            raise FailedPrecondition(f"the spaCy model {model} is not installed, and none is fetched")
        told = {"nlp_engine_name": "spacy", "models": [{"lang_code": language, "model_name": model}]}
        engine = NlpEngineProvider(nlp_configuration=told).create_engine()
        self._analyzer: Any = AnalyzerEngine(nlp_engine=engine, supported_languages=[language])
        self._language = language
        self._least = least

    def find(self, texts: Sequence[str], kinds: Collection[str] = (*KINDS, *NAMES)) -> list[list[Span]]:
        """The spans of each text, ascending, none over another: the surest first, then the longest."""
        return [self._found(text, kinds) for text in texts]

    def _found(self, text: str, kinds: Collection[str]) -> list[Span]:
        told = self._analyzer.analyze(text, language=self._language, score_threshold=self._least)
        taken: list[Span] = []
        for each in sorted(told, key=lambda one: (-one.score, one.start - one.end, one.start)):
            kind = _KINDS.get(each.entity_type)
            free = not any(each.start < other.end and other.start < each.end for other in taken)
            if kind in kinds and kind is not None and free:
                taken.append(Span(each.start, each.end, kind))
        return sorted(taken)
