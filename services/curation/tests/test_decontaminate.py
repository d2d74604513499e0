"""Decontamination finds copies and rewordings; calibration and embeddings say what they are good for."""

import json
import random
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput, Unavailable
from services.curation.compute import semantic_endpoint
from services.curation.compute.calibrate import Interval, calibrate
from services.curation.compute.calibrate_hard import HARD, Corpus
from services.curation.compute.decontaminate import calibrated, decontaminate, measured_recall
from services.curation.compute.semantic import StaticEmbeddings, find_semantic, similar_pairs
from services.curation.compute.semantic_endpoint import EndpointEmbeddings
from services.curation.domain.guard import difference
from services.curation.domain.leakage import Policy, content_of

SOUNDS = ("ba", "ce", "di", "fo", "gu", "ha", "li", "mo", "nu", "ra", "se", "ti")
VOCABULARY = [first + second + third for first in SOUNDS for second in SOUNDS for third in SOUNDS[:5]]
ASKED = "how many are there in the week"


def problem(rng: random.Random) -> str:
    said = rng.sample(VOCABULARY, 14)
    first, second = rng.randint(13, 999), rng.randint(13, 999)
    head, tail = " ".join(said[:7]), " ".join(said[7:])
    return f"The {head} has {first} of the {tail} and gets {second} more. {ASKED}?"


@pytest.fixture(scope="module")
def problems() -> list[str]:
    rng = random.Random(5)
    return list(dict.fromkeys(problem(rng) for _ in range(900)))


def test_each_stage_catches_what_the_cheaper_ones_leave(problems: list[str]) -> None:
    suite = problems[:100]
    said = suite[2].split()
    reworded = (
        f"{said[14]} {' '.join(said[6:0:-1])} with {' '.join(said[17:10:-1])} by {said[9]} now and then {said[21]}"
    )
    assert {said[9], said[21]} == content_of(suite[2]).numbers
    rows = [*problems[100:], suite[0].upper() + "!!", "Please answer me this. " + suite[1] + " Thank you", reworded]
    found = decontaminate(rows, suite, Policy(lexical=0.3))
    at = len(rows) - 3
    assert [(found.hits[row].stage, found.hits[row].held) for row in range(at, at + 3)] == [
        ("exact", 0),
        ("ngram", 1),
        ("lexical", 2),
    ]
    assert found.stages["exact"] == 1


def test_boilerplate_that_many_rows_share_gives_nothing_away(problems: list[str]) -> None:
    frame = "You are a helpful assistant of our company and you answer every question in one short sentence: "
    framed = [
        f"{frame} opened{chr(97 + at // 26)}{chr(97 + at % 26)}, {text}" for at, text in enumerate(problems[:400])
    ]
    suite, rows = framed[:100], framed[100:]
    assert decontaminate(rows, suite, Policy(("exact", "ngram"), lexical=1.0)).hits == {}


def test_the_threshold_is_calibrated_on_the_rows_and_the_recall_is_measured(problems: list[str]) -> None:
    suite, rows = problems[:100], problems[100:]
    threshold = calibrated(rows, len(suite))
    assert 0.15 <= threshold <= 0.4
    assert threshold == calibrated(rows, len(suite))
    recall = measured_recall(rows, suite, Policy(lexical=threshold))
    assert recall.planted == 100
    assert recall.found >= 90
    assert recall.flagged <= 0.02 * recall.clean


def test_only_stages_that_ran_are_named_and_each_says_what_it_finds_alone(problems: list[str]) -> None:
    suite, rows = problems[:100], problems[100:]
    found = decontaminate(rows, suite)
    assert list(found.stages) == ["exact", "ngram", "lexical"]
    assert found.method == f"exact + ngram 13 + lexical {found.thresholds.lexical}"
    assert "static" in decontaminate(rows, suite, embeddings=[StaticEmbeddings.fit([*rows, *suite])]).stages
    copies = decontaminate(rows, suite, Policy(("exact", "ngram")))
    assert (copies.method, copies.thresholds.lexical) == ("exact + ngram 13", None)
    assert decontaminate(rows, []).stages == {}
    recall = measured_recall(rows, suite, found.thresholds)
    assert list(recall.stages) == ["exact", "ngram", "lexical"]
    assert recall.stages["ngram"] < recall.stages["lexical"] <= recall.found


def test_nothing_to_check_is_no_hit(problems: list[str]) -> None:
    assert decontaminate([], problems[:5]).hits == {}
    assert decontaminate(problems[:5], []).hits == {}
    assert decontaminate(["!!!", ""], ["???", "a b"]).hits == {}


def test_a_threshold_calibrates_itself_on_planted_copies(problems: list[str]) -> None:
    found = calibrate(problems, sample=240)
    assert found.recall.value > 0.9
    assert found.precision.value >= 0.99
    assert found.hard_negatives_merged.value == 0.0
    assert found.recall.low < found.recall.value < found.recall.high or found.recall.value == 1.0
    assert set(found.by_kind) == {"typo", "case", "reorder", "synonym", "framed"}
    assert set(found.hard_by_kind) >= {"number", "negation", "opposite", "unit"}
    blind = calibrate(problems, sample=240, guard=False)
    assert blind.hard_negatives_merged.value > 0.9
    assert blind.precision.value < 0.7


def test_every_class_that_the_guard_claims_is_planted_and_only_where_a_row_has_a_word_of_it() -> None:
    rng, nothing = random.Random(1), Corpus((), ())
    said = {
        "number": ("send me seven boxes", "send me 7 boxes"),
        "date": ("Monday suits me", "see you in march", "it opens at 9 pm"),
        "unit": ("it takes 3 weeks", "it weighs 4 kg", "es dauert zwei Stunden"),
        "currency": ("that is 5 euros", "that is 5 €", "I paid it in USD"),
        "negation": ("it does not work", "it is broken", "es ist nicht da"),
        "opposite": ("Buy it", "sell it", "bitte aktivieren", "il faut fermer"),
    }
    assert set(said) | {"entity", "word"} == set(HARD)
    for kind, texts in said.items():
        for text in texts:
            copy = HARD[kind](text, rng, nothing)
            assert copy is not None
            assert difference(text, copy) is not None, (text, copy)
        assert HARD[kind]("the printer burns", rng, nothing) is None
    corpus = Corpus.of(["we met Peter there", "we met Susan there", "the printer and the scanner are broken"])
    assert HARD["entity"]("Peter burns", rng, corpus) == "Susan burns"
    assert HARD["word"]("the printer", rng, corpus) in ("the scanner", "the broken", "the met")


def test_an_interval_of_nothing_says_nothing() -> None:
    assert Interval.of(0, 0) == Interval(0.0, 0.0, 1.0, 0)
    assert Interval.of(9, 10).low == pytest.approx(0.596, abs=0.001)
    assert Interval.of(9, 10).high == pytest.approx(0.982, abs=0.001)


def test_other_forms_of_the_same_words_are_semantic_duplicates_and_other_numbers_are_not() -> None:
    rng = random.Random(2)
    texts = [" ".join(rng.sample(VOCABULARY, 9)) + " in the old town" for _ in range(60)]
    texts += [
        "my delivery 4711 arrived damaged and the package was opened before",
        "my deliveries 4711 arrive damaged and the packages were opened before",
        "my deliveries 4712 arrive damaged and the packages were opened before",
    ]
    found = find_semantic(texts, threshold=0.7)
    assert found.centres[60:] == [60, 60, 62]
    assert found.apart_pairs["number"] >= 1
    assert find_semantic(texts, threshold=0.7, scopes=["a"] * 61 + ["b"] * 2).centres[60:] == [60, 61, 62]
    assert find_semantic([], threshold=0.7).centres == []


def test_hyperplanes_propose_the_pairs_that_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, 32)).astype(np.float32)
    vectors[300:] = vectors[:300] + 0.1 * rng.standard_normal((300, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    exact = similar_pairs(vectors, 0.95)
    monkeypatch.setattr("services.curation.compute.semantic._EXACT", 0)
    found = similar_pairs(vectors, 0.95)
    every = set(zip(exact.left.tolist(), exact.right.tolist(), strict=True))
    assert len(every) >= 300
    assert len(every & set(zip(found.left.tolist(), found.right.tolist(), strict=True))) >= 0.98 * len(every)


class Endpoint(BaseHTTPRequestHandler):
    """Embeds by counting letters; fails as its path says."""

    failures = texts = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "/away/" in self.path or ("/flaky/" in self.path and Endpoint.failures < 1):
            Endpoint.failures += 1
            self.send_error(503)
            return
        if self.headers.get("authorization") != "Bearer k":
            self.send_error(401)
            return
        Endpoint.texts += len(body["input"])
        data = [
            {"index": at, "embedding": [text.count(letter) + 0.01 for letter in "abcdef"]}
            for at, text in enumerate(body["input"])
        ]
        answer = json.dumps({"data": data[1:] if "/short/" in self.path else data[::-1]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(semantic_endpoint, "_PAUSE_SECONDS", 0.01)
    Endpoint.failures = 0
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_endpoint_is_asked_in_batches_and_again_when_it_falters(endpoint: str) -> None:
    found = EndpointEmbeddings(f"{endpoint}/flaky/v1", "m", key="k", batch=2).embed(["aab", "bcc", "ddd"])
    assert found.shape == (3, 6)
    assert found.argmax(axis=1).tolist() == [0, 2, 3]
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3))


def test_an_endpoint_that_is_away_refuses_or_answers_otherwise_says_so(endpoint: str) -> None:
    with pytest.raises(Unavailable, match="stays away"):
        EndpointEmbeddings(f"{endpoint}/away/v1", "m", key="k").embed(["a"])
    with pytest.raises(InvalidInput, match="refused with 401"):
        EndpointEmbeddings(f"{endpoint}/v1", "m").embed(["a"])
    with pytest.raises(InvalidInput, match="0 embeddings for 1 texts"):
        EndpointEmbeddings(f"{endpoint}/short/v1", "m", key="k").embed(["a"])
    with pytest.raises(InvalidInput, match="http or https"):
        EndpointEmbeddings("file:///etc/passwd", "m")


def test_an_endpoint_judges_only_pairs_that_words_make_likely(endpoint: str, problems: list[str]) -> None:
    suite, rows = problems[:20], [*problems[100:300], problems[3].replace("team", "crew")]
    policy = Policy(("lexical", "endpoint"), lexical=0.95, endpoint=0.99)
    found = decontaminate(rows, suite, policy, [EndpointEmbeddings(f"{endpoint}/v1", "m", key="k")])
    assert found.hits[200].stage == "endpoint"
    assert found.hits[200].evidence == "endpoint/m"
    assert found.method == "lexical 0.95 + endpoint/m 0.99"


def test_an_endpoint_is_measured_on_every_reworded_item_and_sent_no_text_twice(
    endpoint: str, problems: list[str]
) -> None:
    suite, rows = problems[:20], problems[100:300]
    dear = EndpointEmbeddings(f"{endpoint}/v1", "m", key="k")
    policy = Policy(("lexical", "endpoint"), lexical=0.2, endpoint=0.5)
    recall = measured_recall(rows, suite, policy, [dear])
    assert recall.stages["endpoint"] == recall.stages["lexical"] == 20
    asked = Endpoint.texts
    assert measured_recall(rows, suite, policy, [dear]) == recall
    assert Endpoint.texts == asked > 0


def test_static_embeddings_are_the_same_for_the_same_corpus() -> None:
    texts = ["the printer burns", "the router is lost", "an invoice came late", ""]
    one, other = (StaticEmbeddings.fit(texts).embed(texts) for _ in range(2))
    assert np.array_equal(one, other)
    assert not one[3].any()
