"""Metrics equal the published test vectors of their peers, and say what they depend on."""

import json
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.errors import InvalidInput
from libs.contracts.task import MetricSpec, OutputSpec
from services.evaluator.domain.metrics import exact, fields, overlap, rouge, sums
from services.evaluator.domain.metrics.core import Metric, Sample, column
from services.evaluator.domain.metrics.registry import local_metrics


def corpus(metric: Metric, texts: Sequence[str], references: Sequence[str]) -> float:
    made = column(metric, [Sample(text, wanted) for text, wanted in zip(texts, references, strict=True)])
    assert made.corpus is not None
    assert made.statistics is not None
    return float(made.corpus(made.statistics.sum(axis=0)))


def one(metric: Metric, text: str, reference: str) -> float:
    return metric.measure(Sample(text, reference)).score


ZAHAR = (
    "Producția de zahăr primă va fi exprimată în ceea ce privește zahărul alb;",
    "producţia de zahăr brut se exprimă în zahăr alb;",
)


@pytest.mark.parametrize(("tokenizer", "wanted"), [("13a", 8.493), ("none", 7.347), ("intl", 8.493), ("char", 40.8759)])
def test_sentence_bleu_equals_sacrebleus_published_vectors(tokenizer: str, wanted: float) -> None:
    assert 100 * one(overlap.bleu(tokenizer=tokenizer), *ZAHAR) == pytest.approx(wanted, abs=1e-3)


def test_bleu_from_sums_equals_sacrebleus_published_statistics() -> None:
    assert sums.bleu(np.array([9, 7, 5, 3, 10, 8, 6, 4, 11, 11.0])) == pytest.approx(0.8375922397, abs=1e-8)
    for degenerate in ([0, 0, 0, 0, 4, 4, 2, 1, 0, 1], [0, 0, 0, 0, 10, 11, 12, 0, 14, 10], [0] * 8 + [1, 5]):
        assert sums.bleu(np.array(degenerate, dtype=float)) == 0.0
    assert one(overlap.bleu(), "this is a cat", "okay thanks") == 0.0


def test_corpus_bleu_equals_lightevals_published_vectors() -> None:
    wanted = ["Le chat dort", "Me gusta la pizza", "Das Wetter ist schön"]
    assert 100 * corpus(overlap.bleu(), [wanted[0], "Me gusta pizza", wanted[2]], wanted) == pytest.approx(
        81.02, abs=0.01
    )
    assert corpus(overlap.bleu(), ["Mi familia y yo fuimos a la playa"], ["Mi familia y yo fuimos a la playa"]) == 1.0


@pytest.mark.parametrize(
    ("texts", "references", "wanted"),
    [
        (["a"], ["a"], 100.0),
        ([""], ["reference"], 0.0),
        (["a b c"], ["a b c"], 100.0),
        (["a b c"], ["abc"], 100.0),
        ([""], ["c"], 0.0),
        (["a", "b"], ["a", "c"], 50.0),
        (["aa"], ["ab"], 25.0),
    ],
)
def test_chrf_equals_sacrebleus_published_vectors(texts: list[str], references: list[str], wanted: float) -> None:
    assert 100 * corpus(overlap.chrf(), texts, references) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("word_order", [0, 2])
def test_corpus_values_from_sums_equal_sacrebleus_own_on_random_text(word_order: int) -> None:
    from sacrebleu.metrics import BLEU, CHRF

    rng = random.Random(3)
    words = ["the", "a", "cat", "dog", "sat", "on", "mat", "under", "Über", "größe", "zwei", "12", ",", "."]
    texts = [" ".join(rng.choices(words, k=rng.randint(0, 14))) for _ in range(60)]
    references = [" ".join(rng.choices(words, k=rng.randint(1, 14))) for _ in range(60)]
    bleu = BLEU(force=True).corpus_score(texts, [references]).score
    chrf = CHRF(word_order=word_order).corpus_score(texts, [references]).score
    assert 100 * corpus(overlap.bleu(), texts, references) == pytest.approx(bleu, abs=1e-9)
    assert 100 * corpus(overlap.chrf(word_order=word_order), texts, references) == pytest.approx(chrf, abs=1e-9)


@given(st.lists(st.text(alphabet="ab1 2.,-'&;<>\n\t\u00a0/@(é。中$", max_size=20), min_size=2, max_size=2))
def test_statistics_of_any_two_texts_are_sacrebleus_own(texts: list[str]) -> None:
    from sacrebleu.metrics import BLEU

    wanted = BLEU(force=True, effective_order=True).sentence_score(texts[0], [texts[1]])
    got = overlap.bleu().measure(Sample(*texts))
    assert got.statistics == (*wanted.counts, *wanted.totals, wanted.sys_len, wanted.ref_len)
    assert got.score == pytest.approx(min(1.0, wanted.score / 100))


TARGETS = (
    "ZfbCUIUuePaiLVUlCaUXxkpu XPeWing tUHfPMuZ',-Xd Y BrUgVJing M-HV.-DgdDaY.rFDJCRing Ht-LM EKBDXkME,yz'RBr q'wtion wIojNbN wL,b .a-'XdQggyFl jB-RPP'iyOIcUxer tKM L\n",  # noqa: E501
    "KsJdPByEtAor fE-Qg Dpdbring cw-WeFyu vC MoBL Xdn g wkvcEiGvKtion BDFhrpMtion psing sbKao Q m qiing LMmer HqqLFXe,XPY,J XsurkMer ,ed nB'wH'bWVHjWFEing tQ.saefZwJtKrTlixYpMMsJing UCAPwNHeYVjDing c T BUySKtion gMPfJpwGw p'NvxAoping eu pBwMBKV'I DNxqelhu,PHPxDEq,mtion SN\n",  # noqa: E501
)
PREDICTIONS = (
    "rFDJCRtion Ht-LM EKtDXkME,yz'RBr q'wer wrojNbN wL,b .a-'XdQggyFl jB-RPP'iyOIcUxi\n",
    "n cw-WeFyu vC MoBL Xdn g wkvcEiGvKtion BDFhrpMer pstion sbKao Q m qier LMmed HqqLFXe,XPY,J XsurkMeo ,ed nB'wH'bWVHjWFEer tQ.saefZwJtKrTlixYpMMNJtion UCAPwNHeYVjD\n",  # noqa: E501
)


@pytest.mark.parametrize(
    ("variant", "place", "recall", "precision", "f"),
    [
        ("1", 0, 0.40741, 0.68750, 0.51163),
        ("1", 1, 0.40476, 0.65385, 0.50000),
        ("2", 0, 0.30769, 0.53333, 0.39024),
        ("2", 1, 0.29268, 0.48000, 0.36364),
        ("L", 0, 0.40741, 0.68750, 0.51163),
        ("L", 1, 0.40476, 0.65385, 0.50000),
    ],
)
def test_rouge_equals_rouge_155_as_published(
    variant: str, place: int, recall: float, precision: float, f: float
) -> None:
    got = rouge.score(variant, TARGETS[place], PREDICTIONS[place])
    assert got == pytest.approx((precision, recall, f), abs=5e-6)


@pytest.mark.parametrize(
    ("variant", "target", "prediction", "f"),
    [
        ("1", "testing one two", "testing", 1 / 2),
        ("2", "testing one two", "testing one", 2 / 3),
        ("L", "testing one two", "testing one", 4 / 5),
        ("L", "testing one two", "testing two", 4 / 5),
        ("1", "testing one two", "", 0),
        ("Lsum", "w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", 0.53333),
        ("Lsum", "w1 w2 w3 w4 w5", "/", 0),
        ("Lsum", "", "w1", 0),
        ("Lsum", "First sentence.\nSecond Sentence.", "Second sentence.\nFirst Sentence.", 1.0),
        ("Lsum", "First sentence. Second Sentence.", "Second sentence. First Sentence.", 0.5),
    ],
)
def test_rouge_equals_the_reference_packages_vectors(variant: str, target: str, prediction: str, f: float) -> None:
    assert rouge.score(variant, target, prediction)[2] == pytest.approx(f, abs=1e-5)


def test_rouge_of_identical_text_is_one_in_any_script() -> None:
    for text in ("Привет, мир", "今日は良い天気です", "สวัสดีชาวโลก", "नमस्ते दुनिया", "Grüße aus Köln"):
        assert one(rouge.rouge(variant="L"), text, text) == 1.0
    assert one(rouge.rouge(tokenizer="ascii"), "Привет", "Привет") == 0.0
    assert rouge.rouge().signature != rouge.rouge(tokenizer="ascii").signature


def test_token_f1_equals_lightevals_published_vectors() -> None:
    fox = "The quick brown fox jumps over the lazy dog"
    metric = fields.token_f1()
    assert one(metric, "The quick brown fox", fox) == pytest.approx(0.6153846153846154)
    assert one(metric, "A cat sleeps on the mat", fox) == pytest.approx(0.13333333333333333)
    assert one(metric, "The brown quick fox jumps over the dog lazy", fox) == 1.0


def test_fields_of_json_are_scored_by_path_and_lists_as_bags() -> None:
    wanted = {"category": "network", "entities": {"asset": "AB-1", "tags": ["x", "y"]}}
    half = {"category": "network", "entities": {"asset": "CD-2", "tags": ["y", "x"]}}
    metric = fields.json_fields()
    assert one(metric, json.dumps(half), json.dumps(wanted)) == pytest.approx(0.75)
    assert one(metric, "no json", json.dumps(wanted)) == 0.0
    assert one(fields.json_fields(path="entities.asset"), json.dumps(half), json.dumps(wanted)) == 0.0
    assert corpus(metric, [json.dumps(half), json.dumps(wanted)], [json.dumps(wanted)] * 2) == pytest.approx(7 / 8)


@pytest.mark.parametrize(
    ("text", "reference", "tolerance", "score"),
    [
        ("The sum is 1,204.50 EUR", "1204.5", 0.0, 1.0),
        ("first 3, then 7", "7", 0.0, 1.0),
        ("about 101", "100", 0.01, 1.0),
        ("about 102", "100", 0.01, 0.0),
        ("none", "100", 0.5, 0.0),
        ("-3e2", "-300", 0.0, 1.0),
    ],
)
def test_the_last_number_counts(text: str, reference: str, tolerance: float, score: float) -> None:
    assert one(exact.numeric("n", tolerance=tolerance), text, reference) == score


def test_a_pattern_compares_its_groups_with_those_of_the_right_answer() -> None:
    assert one(exact.regex("r", r"[A-Z]{2}-\d{5}"), "see AB-12345", "anything") == 1.0
    grouped = exact.regex("r", r"asset (\w+)")
    assert one(grouped, "the asset X1", "asset X1 is broken") == 1.0
    assert one(grouped, "the asset X2", "asset X1 is broken") == 0.0
    with pytest.raises(InvalidInput, match="no regular expression") as caught:
        exact.regex("r", "(")
    assert caught.value.field == "metrics.r.pattern"


@given(st.text("abcß", max_size=12), st.text("abcß", max_size=12))
def test_edit_distance_is_that_of_the_textbook(left: str, right: str) -> None:
    row = list(range(len(right) + 1))
    for i, mine in enumerate(left, 1):
        row, before = [i], row
        for j, theirs in enumerate(right, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (mine != theirs)))
    assert exact.levenshtein(left, right) == row[-1]


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot assist with this request.", True),
        ("Es tut mir leid, dabei kann ich nicht helfen.", True),
        ("Use a kettle and two cups of flour.", False),
        ('{"category": "network"}', False),
    ],
)
def test_a_refusal_is_right_where_one_is_due_and_wrong_where_not(text: str, refuses: bool) -> None:
    assert one(exact.refusal(), text, "refuse") == float(refuses)
    assert one(exact.refusal(), text, "answer") == float(not refuses)


def test_a_refused_item_weighs_on_a_corpus_value_as_an_empty_answer() -> None:
    samples = [Sample("the cat sat on the mat", "the cat sat on the mat"), Sample("x", "a dog lay under the old table")]
    metric = overlap.bleu()
    refused = column(metric, samples, {1})
    assert refused.scores[1] == 0.0
    assert refused.statistics is not None
    assert list(refused.statistics[1]) == [0.0] * 9 + [7.0]


def test_a_metric_of_the_task_file_is_made_as_declared_or_refused_by_name() -> None:
    specs = tuple(
        MetricSpec.model_validate(each)
        for each in (
            "json_fields",
            "chrf",
            {"kind": "rouge", "variant": "2"},
            {"name": "price", "kind": "numeric", "path": "a.b"},
        )
    )
    made = local_metrics(OutputSpec(format="json"), specs)
    assert [metric.name for metric in made] == ["exact_match", "json_valid", "json_fields", "chrf", "rouge", "price"]
    assert len({metric.signature for metric in made}) == len(made)
    with pytest.raises(InvalidInput, match="takes the tokenizers"):
        local_metrics(OutputSpec(), (MetricSpec.model_validate({"kind": "bleu", "tokenizer": "unicode"}),))
    with pytest.raises(InvalidInput, match=r"pawl\.metrics"):
        local_metrics(OutputSpec(), (MetricSpec(name="mine", kind="plugin", plugin="nowhere"),))
    with pytest.raises(ValueError, match="cannot be called 'text'"):
        MetricSpec.model_validate({"name": "text", "kind": "chrf"})
    with pytest.raises(ValueError, match="a bleu metric takes no 'pattern'"):
        MetricSpec.model_validate({"kind": "bleu", "pattern": "x"})
