"""Personal data: what is found, what is left alone, and that a pseudonym is the same wherever its value stands."""

import ipaddress
import random
import sys
from collections.abc import Collection, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.contracts.errors import FailedPrecondition
from libs.contracts.pseudonyms import SURROGATE, Pseudonyms
from libs.contracts.task.data import RedactionSpec
from services.curation.compute.personal import BothFinders, PatternFinder
from services.curation.compute.personal_presidio import PresidioFinder
from services.curation.domain.personal import DEFAULTS, KINDS, NAMES, Span, find, redact
from services.curation.domain.personal_checks import date, luhn, mod97

KEY = b"salt of the task"
SAMPLES = [
    ("email", "write to Ann.Lee+x@mail.example.org.", "Ann.Lee+x@mail.example.org"),
    ("card", "paid with 4111 1111 1111 1111 today", "4111 1111 1111 1111"),
    ("card", "my maestro card is 676222165679", "676222165679"),
    ("iban", "to DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00"),
    ("iban", "to gb42nawi04454264788619", "gb42nawi04454264788619"),
    ("ssn", "my SSN: 849-66-3189.", "849-66-3189"),
    ("ip", "from 10.20.30.40 it fails", "10.20.30.40"),
    ("ip", "from 6e40:4041:c617:e898:c11:40d2:c669:2eb4 it fails", "6e40:4041:c617:e898:c11:40d2:c669:2eb4"),
    ("phone", "call me on 450 0840?", "450 0840"),
    ("phone", "ring +44 (0)20 7946 0958 now", "+44 (0)20 7946 0958"),
    ("phone", "3660170548-Fax", "3660170548"),
    ("url", "see (https://www.example.com/a?b=1).", "https://www.example.com/a?b=1"),
    ("licence", "my driver's license number is F162823540116", "F162823540116"),
    ("birth_date", "She was born on 10/23/1951.", "10/23/1951"),
    ("birth_date", "DOB: 1951-10-23", "1951-10-23"),
    ("date", "shipped 2024-02-29 07:00:28 from us", "2024-02-29 07:00:28"),
    ("postcode", "ZIP: 75534-030", "75534-030"),
    ("postcode", "Portland, OR 97201 or", "97201"),
    ("postcode", "Springfield IL 62704-1234", "62704-1234"),
    ("postcode", "12 Hauptstrasse Apt. 675\nAalborg NO 9100", "9100"),
    ("postcode", "764 Fagradalsbraut 71 Suite 762\n   Egilsstaðir\n    IS\n    700\n", "700"),
    ("postcode", "Mill Village NS B0J 2H0", "B0J 2H0"),
    ("age", "a 65-year-old male", "65"),
    ("title", "for Dr. Wells", "Dr."),
    ("credential", "git clone https://bob:s3cret@host.org/x.git", "bob:s3cret"),
    ("credential", "use sk-proj-abcdefghij0123456789 here", "sk-proj-abcdefghij0123456789"),
    ("credential", 'api_key = "9f8a7b6c5d"', "9f8a7b6c5d"),
    ("credential", "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
]


@pytest.mark.parametrize(("kind", "text", "value"), SAMPLES)
def test_a_value_is_found_to_the_character(kind: str, text: str, value: str) -> None:
    found = [(span.kind, text[span.start : span.end]) for span in find(text)]
    assert (kind, value) in found


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112 of 2024",
        "std::vector<int> x::y and version 1.2.3",
        "it costs 1 250 000 euros, or 12 000 a month",
        "the meeting is on 31.02.2024",
        "my password is wrong and the token expired",
        "ticket 000-12-3456",
        "meet @ 5 in room 12-34",
        "5 of 7 tests fail after 300 minutes",
        "Sorry, ID 12345 is my order",
        "Ticket ID 45678 and Order NO 12345",
        "the unit 4\nwas sold. It made\n1200",
        "of unit 4\nwe sold\n1200",
    ],
)
def test_what_only_looks_like_personal_data_is_left_alone(text: str) -> None:
    assert [span for span in find(text) if span.kind not in ("date", "age", "title")] == []


def test_checks_follow_their_standards() -> None:
    assert (luhn("4111111111111111"), luhn("4111111111111112"), luhn("0" * 16)) == (True, False, False)
    assert (mod97("GB82 WEST 1234 5698 7654 32"), mod97("GB82 WEST 1234 5698 7654 33")) == (True, False)
    assert (date("2024-02-29"), date("2023-02-29"), date("29 Feb 2024"), date("13/13/2020")) == (
        True,
        False,
        True,
        False,
    )


@settings(max_examples=12, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([text for _, text, _ in SAMPLES]), st.text(max_size=30)), max_size=5))
def test_the_look_at_many_texts_finds_what_the_patterns_find(texts: list[str]) -> None:
    texts = [*texts, " ".join(texts)]
    assert PatternFinder().find(texts) == [find(text) for text in texts]
    for text, spans in zip(texts, PatternFinder().find(texts), strict=True):
        assert all(one.end <= other.start for one, other in pairwise(spans))
        assert all(0 <= span.start < span.end <= len(text) for span in spans)


def test_the_same_value_has_the_same_pseudonym_in_every_row_of_the_task_and_no_other_task() -> None:
    actions = dict.fromkeys(KINDS, "redact")
    one = redact("mail Ann@b.org or call me on 450 0840", actions, Pseudonyms(KEY))
    other = redact("4500840? no: call me at 450-0840. ann@B.org", actions, Pseudonyms(KEY))
    mail, phone = one.text.removeprefix("mail ").split(" or call me on ")
    assert other.text == f"4500840? no: call me at {phone}. {mail}"
    assert mail not in redact("ann@b.org", actions, Pseudonyms(b"another task")).text


def test_the_policy_of_a_task_names_every_kind_with_what_is_done_by_default() -> None:
    assert RedactionSpec().model_dump(mode="json") == dict.fromkeys(NAMES, "redact") | dict(DEFAULTS)


@pytest.mark.parametrize("seed", range(40))
def test_redacting_twice_changes_nothing(seed: int) -> None:
    actions, names = dict.fromkeys(KINDS, "redact"), Pseudonyms(KEY + bytes([seed]))
    text = "\n".join(text for _, text, _ in SAMPLES)
    once = redact(text, actions, names).text
    assert all(value not in once for kind, _, value in SAMPLES if kind not in ("age", "title"))
    assert redact(once, actions, names).text == once


def test_the_policy_redacts_drops_or_keeps_each_kind() -> None:
    text = "ann@b.org paid to DE89 3704 0044 0532 0130 00"
    found = redact(text, {"email": "keep", "iban": "drop"}, Pseudonyms(KEY))
    assert found.drop == "iban"
    assert found.text.startswith("ann@b.org paid to <IBAN_")
    assert [span.kind for span in found.spans] == ["email", "iban"]
    assert redact("see https://a.org, Dr. Wells", {}, Pseudonyms(KEY)).text == "see https://a.org, Dr. Wells"


@pytest.mark.parametrize("seed", range(20))
def test_a_surrogate_keeps_the_form_and_belongs_to_nobody(seed: int) -> None:
    rng = random.Random(seed)
    card = next(value for value in iter(lambda: "4" + "".join(rng.choices("0123456789", k=15)), "") if luhn(value))
    names = Pseudonyms(KEY, SURROGATE)
    fake = names.name("card", card)
    assert (len(fake), fake[0], luhn(fake)) == (16, "4", False)
    iban = names.name("iban", "DE89 3704 0044 0532 0130 00")
    assert (iban[:4], len(iban), mod97(iban)) == ("DE00", 27, False)
    assert find(names.name("ssn", "849-66-3189")) == []
    assert ipaddress.ip_address(names.name("ip", f"10.0.0.{seed}")).is_reserved
    assert names.name("email", f"a{seed}@b.org").endswith("@example.com")
    assert names.name("card", " ".join(card[at : at + 4] for at in range(0, 16, 4))).replace(" ", "") != card


def test_presidio_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(FailedPrecondition, match="install the extra presidio"):
        PresidioFinder()


def test_what_presidio_finds_stands_beside_what_the_patterns_find_and_never_over_it() -> None:
    class Names:
        def find(self, texts: Sequence[str], kinds: Collection[str]) -> list[list[Span]]:
            assert "person" in kinds
            return [[Span(0, 3, "person"), Span(7, 12, "place")] for _ in texts]

    (found,) = BothFinders(PatternFinder(), Names()).find(["Ann at ann@b.org"])
    assert found == [Span(0, 3, "person"), Span(7, 16, "email")]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("phone" + " " * 100_000 + "x", 0),
        ("passport" + "\n" * 100_000, 0),
        ("\n".join(f"10.{n % 250}.{n // 250}.7" for n in range(30_000)), 30_000),
    ],
    ids=["blanks", "lines", "values"],
)
def test_a_text_as_long_as_a_row_may_be_is_searched_in_the_time_of_its_length(text: str, spans: int) -> None:
    # Were it searched in the square of that, these would take minutes.
    assert len(find(text)) == spans
