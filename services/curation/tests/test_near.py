"""Near duplicates on columns: the same words and guard as the reference, no difference that matters merged."""

import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.contracts.errors import FailedPrecondition, InvalidInput
from services.curation.compute import near_daft, near_marks, near_sketch, near_words
from services.curation.compute.near import BESIDE, find_near, group_texts
from services.curation.compute.near_pairs import proposed, unpacked
from services.curation.compute.near_words import distinct, hash_of, spans, tokenise
from services.curation.compute.overlap import Overlap
from services.curation.compute.semantic import find_semantic
from services.curation.domain.clusters import nearest_centres
from services.curation.domain.guard import MARKED, difference, known_names, marks
from services.curation.domain.text import jaccard, masked, words

ALPHABET = "aAbzIé\u2019'ßİ你の٣0159 \n.,:!-+@/_$%€\x00"
SENTENCE = "the new printer in the second office of our sales team {} burn and smell since this early morning in {}"
WORDS = ("Invoice", "printer", "not", "two", "Paris", "Berlin", "ann@b.org", "disable", "never", "4711", "over", "I'm")
texts_of_words = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.text(ALPHABET, max_size=40), st.text(max_size=20), texts_of_words), max_size=8))
def test_columns_read_the_same_words_as_the_reference(texts: list[str]) -> None:
    tokens = tokenise(texts) if texts else None
    for at, text in enumerate(texts):
        assert tokens is not None
        mine = tokens.hashes[tokens.first[at] : tokens.first[at + 1]].tolist()
        assert mine == [hash_of(word) for word in words(text)]


@settings(max_examples=60, deadline=None)
@given(st.lists(texts_of_words, min_size=2, max_size=6))
def test_columns_guard_what_the_reference_guards(texts: list[str]) -> None:
    tokens = tokenise(texts, cases=True)
    found = near_marks.marks(tokens)
    for at, kind in enumerate(MARKED):
        for left, right in zip(range(len(texts)), range(1, len(texts)), strict=False):
            same = marks(words(texts[left]), kind) == marks(words(texts[right]), kind)
            assert (found[at][left] == found[at][right]) == same
    known = near_marks.names([tokens])
    assert known.tolist() == sorted(hash_of(name) for name in known_names(texts))
    order = near_marks.name_order(tokens, known)
    names = known_names(texts)
    said = [tuple(dict.fromkeys(word for word in words(text) if word in names)) for text in texts]
    assert [(one == other) for one in order for other in order] == [one == other for one in said for other in said]


@settings(max_examples=40, deadline=None)
@given(st.lists(texts_of_words, min_size=1, max_size=6))
def test_masked_columns_are_the_forms_of_the_reference(texts: list[str]) -> None:
    values, counts = distinct(tokenise(texts, masked=True))
    ends = np.cumsum(counts)
    for text, start, end in zip(texts, ends - counts, ends, strict=True):
        assert set(values[start:end].tolist()) == {hash_of(word) for word in masked(words(text))}


@pytest.mark.parametrize(
    ("left", "right", "kind"),
    [
        ("send 3 boxes to me", "send 4 boxes to me", "number"),
        ("move it from 5 to 6", "move it from 6 to 5", "number"),
        ("it is -5 degrees", "it is 5 degrees", "number"),
        ("it costs $20 more", "it costs €20 more", "number"),
        ("send two boxes", "send 2 boxes", None),
        ("it does burn", "it does not burn", "negation"),
        ("it doesn't burn", "it does not burn", "negation"),
        ("please enable it", "please disable it", "polarity"),
        ("write to a@b.org", "write to c@b.org", "number"),
        ("Hello there", "hello, there!", None),
    ],
)
def test_the_guard_names_the_kind_of_a_difference(left: str, right: str, kind: str | None) -> None:
    found = difference(left, right)
    if (left, right) == ("it doesn't burn", "it does not burn"):
        assert found is None
    else:
        assert (found and str(found.kind)) == kind


def test_a_near_duplicate_is_merged_and_what_differs_where_it_matters_is_told() -> None:
    texts = [
        SENTENCE.format("does", "Paris"),
        "Hello! " + SENTENCE.format("does", "paris").upper(),
        SENTENCE.format("does not", "Paris"),
        SENTENCE.format("does", "Berlin"),
        SENTENCE.format("does", "Paris").replace("second", "third"),
    ]
    found = find_near(texts, threshold=0.8)
    assert found.centres == [0, 0, 2, 3, 4]
    assert set(found.apart_pairs) == {"negation", "entity", "number"}
    assert {each.kind: each.detail for each in found.apart if each.other == 0}["negation"] == "not | "
    assert find_near(texts, threshold=0.8, guard=False).centres == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "this", "that"),
    [
        ("मुझे अपने {} के बारे में सारी जानकारी चाहिए", "दिन", "दान"),
        ("ฉันอยากขี่{}ไปที่ตลาดพรุ่งนี้เช้า", "ม้า", "มา"),
        ("{} الاستاذ الطالب درسا جديدا في المدرسة اليوم", "عَلَّمَ", "عُلِمَ"),
        ("my last order came on time and I would say great {}", "\U0001f44d", "\U0001f44e"),
        ("on the form of this customer tick the box {} and send", "\u2713", "\u2717"),
        ("refund of {}500 for the order of yesterday", "\u20b9", "$"),
    ],
    ids=["vowels", "tones", "points", "thumbs", "ticks", "currencies"],
)
def test_what_differs_in_a_mark_or_a_picture_alone_is_not_merged(text: str, this: str, that: str) -> None:
    left, right = text.format(this), text.format(that)
    assert words(left) != words(right)
    assert find_near([left, right], threshold=0.5, answers=["a", "a"]).centres == [0, 1]
    assert find_near([left, left + "!"], threshold=0.5, answers=["a", "a"]).centres == [0, 0]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("cafe\u0301 \u0130stanbul", "CAF\u00c9 istanbul"),
        ("\u2764\ufe0f", "\u2764"),
        ("\U0001f44d\U0001f3fd", "\U0001f44d"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"),
        ("\u0390", "\u03b9\u0308\u0301"),
    ],
    ids=["composed", "variation", "skin", "joined", "folded"],
)
def test_how_a_sign_is_drawn_makes_no_other_word(left: str, right: str) -> None:
    assert words(left) == words(right)


def test_rows_of_other_scopes_are_strangers_and_rows_with_other_answers_are_told() -> None:
    texts = [SENTENCE.format("does", "rome"), SENTENCE.format("does", "rome") + " thanks"]
    assert find_near(texts, scopes=["train", "test"]).apart_pairs == {}
    assert find_near(texts, scopes=["train", "test"]).centres == [0, 1]
    found = find_near(texts, answers=["a", "b"])
    assert (found.centres, found.apart_pairs, found.apart[0].kind) == ([0, 1], {"answer": 1}, "answer")
    assert find_near(texts, answers=["a", "a"]).centres == [0, 0]


def planted(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Rows of random words, every third a slightly edited copy of one before it, with their originals."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("bcdfglmnrst", k=2) + rng.choices("aeiou", k=2)) + str(at) for at in range(900)]
    vocabulary = [word.translate(str.maketrans("0123456789", "aeioubdfgh")) for word in vocabulary]
    texts: list[str] = []
    origins: list[int] = []
    for at in range(count):
        if at % 3 == 2:
            origin = origins[rng.randrange(at)]
            said = texts[origin].split()
            for place in rng.sample(range(len(said)), 2):
                said[place] = rng.choice(vocabulary)
            texts.append(" ".join(said))
        else:
            origin = at
            texts.append(" ".join(rng.sample(vocabulary, 30)))
        origins.append(origin)
    return texts, origins


def test_planted_copies_are_found_and_nothing_else() -> None:
    texts, origins = planted(3000, 1)
    found = find_near(texts, threshold=0.7)
    together = [found.centres[at] == origin for at, origin in enumerate(origins) if at != origin]
    assert sum(together) / len(together) > 0.99
    assert all(origins[at] == origins[centre] for at, centre in enumerate(found.centres))
    for row, centre, similarity in found.merged():
        both = (frozenset(words(texts[row])), frozenset(words(texts[centre])))
        assert similarity == pytest.approx(jaccard(*both))
        assert similarity >= 0.7
        assert found.centres[centre] == centre


def test_no_member_is_further_from_its_centre_than_the_threshold_however_long_the_chain() -> None:
    said = [f"word{chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(400)]
    chain = [" ".join(said[at : at + 40]) for at in range(0, 300, 2)]
    found = find_near(chain, threshold=0.8)
    for row, centre, _ in found.merged():
        assert jaccard(frozenset(chain[row].split()), frozenset(chain[centre].split())) >= 0.8
    assert found.largest <= 10


def test_a_cluster_that_swallows_the_data_raises_the_alarm() -> None:
    said = f"{SENTENCE.format('does', 'rome')} and nobody among all who work there knows what else could be done"
    own = [f"word{chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(180)]
    texts = [f"{said} {own[at]} {own[at + 1]}" for at in range(0, 180, 2)]
    alarm = find_near(texts, threshold=0.7).alarm
    assert alarm is not None
    assert "one cluster, around row 0, holds 90 of 90 rows (100%)" in alarm


def test_more_data_never_moves_a_group() -> None:
    texts, _ = planted(1500, 2)
    later = group_texts(texts)
    for cut in (1, 400, 1100):
        assert group_texts(texts[:cut]) == later[:cut]


def test_rows_that_differ_in_an_identifier_alone_are_one_group() -> None:
    texts = [f"please cancel the order {at * 7919} for me today, it went to user{at}@example.com" for at in range(300)]
    assert set(group_texts(texts)) == {0}


def test_a_sketch_estimates_the_similarity_without_bias() -> None:
    rng = random.Random(3)
    vocabulary = [f"word{chr(97 + at // 676)}{chr(97 + at // 26 % 26)}{chr(97 + at % 26)}" for at in range(9000)]
    left, right = [], []
    for _ in range(400):
        said = rng.sample(vocabulary, 56)
        left.append(" ".join(said[:40]))
        right.append(" ".join(said[16:]))
    one, other = (near_sketch.minhash(tokenise(side), 126) for side in (left, right))
    assert (one == other).mean() == pytest.approx(24 / 56, abs=0.01)


def test_long_texts_are_read_in_small_parts_and_what_is_found_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, _ = planted(120, 5)
    texts.insert(60, " ".join(texts))
    whole = find_near(texts), find_semantic(texts), Overlap(texts, 0.5).count(np.arange(60), np.arange(60, len(texts)))
    monkeypatch.setattr(near_words, "CHARACTERS", 400)
    parts = spans(texts)
    assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
    assert parts[-1][1] == len(texts)
    assert all(stop == start + 1 or sum(map(len, texts[start:stop])) <= 400 for start, stop in parts)
    assert (60, 61) in parts
    again = find_near(texts), find_semantic(texts), Overlap(texts, 0.5).count(np.arange(60), np.arange(60, len(texts)))
    assert again == whole
    assert spans([]) == []


def test_no_rows_are_no_duplicates() -> None:
    assert find_near([]).centres == []
    assert group_texts([]) == []
    assert nearest_centres([]) == {}


def test_what_another_engine_sends_back_is_what_was_sketched() -> None:
    texts, _ = planted(300, 4)
    found = near_sketch.sketch(texts, 0.8)
    bands, _rows = near_sketch.banding(0.8)
    back = near_daft.columns_of(near_daft.rows_of(found), bands)
    assert np.array_equal(back.keys, found.keys)
    assert np.array_equal(back.marks, found.marks)
    assert np.array_equal(back.same, found.same)


def test_the_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "daft", None)
    with pytest.raises(FailedPrecondition, match="install the extra scale"):
        near_daft.daft_sketcher()


def test_what_a_row_is_compared_with_does_not_grow_with_the_rows_of_its_template_and_copies_are_still_found() -> None:
    rng = random.Random(6)
    vocabulary = ["".join(rng.choices("bcdfglmnrst", k=3) + rng.choices("aeiou", k=3)) for _ in range(4000)]
    template = "please tell me where my parcel is and when it will arrive"
    texts = [f"{template} {' '.join(rng.sample(vocabulary, 5))}" for _ in range(6000)]
    copies = rng.sample(range(6000), 300)
    texts += [f"hello {texts[at]}" for at in copies]
    keys = near_sketch.sketch(texts, 0.7).keys
    rows = np.arange(len(texts))
    bound = BESIDE + 2 * len(keys)
    for count in (1500, 6300):
        pairs = proposed(keys[:, :count], rows[:count], most=BESIDE)
        assert np.bincount(unpacked(pairs)[0]).max() <= bound
    assert len(proposed(keys, rows, most=BESIDE)) < 0.6 * len(proposed(keys, rows))
    found = find_near(texts, threshold=0.7).centres
    assert np.mean([found[6000 + at] == found[origin] for at, origin in enumerate(copies)]) > 0.99
    assert find_near(texts[:1500], threshold=0.7).centres == found[:1500]


def test_more_rows_than_can_be_compared_are_refused_before_any_work_and_no_engine_is_advised() -> None:
    class Many(list[str]):
        def __len__(self) -> int:
            return (1 << 24) + 1

    def never(*_: object, **__: object) -> near_sketch.Sketches:
        raise AssertionError

    for search in (find_near, group_texts):
        with pytest.raises(InvalidInput, match="compared in curation") as refused:
            search(Many(), sketcher=never)
        assert refused.value.field == "data.sources"
