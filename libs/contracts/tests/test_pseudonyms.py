"""Pseudonyms: nobody without the secret can tell whose they are, and no two people share one."""

import random
import string
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.contracts.pseudonyms import SURROGATE, Pseudonyms, key_of, naming_key
from libs.contracts.surrogates import FORMS, same_form

SECRET = b"a secret of thirty-two bytes ..."
KEY = naming_key(SECRET, "default", "triage")


def test_keys_differ_by_tenant_task_and_purpose_and_stay_under_one_secret() -> None:
    keys = {
        naming_key(SECRET, "default", "triage"), naming_key(SECRET, "default", "other"),
        naming_key(SECRET, "acme", "triage"), naming_key(b"another", "default", "triage"),
        key_of(SECRET, "default", "groups"),
    }  # fmt: skip
    assert len(keys) == 5
    assert naming_key(SECRET, "default", "triage") == KEY


def test_who_knows_tenant_and_task_but_no_secret_cannot_try_numbers() -> None:
    named = Pseudonyms(KEY).name("phone", "+49 170 1234567")
    for guess in (b"default/triage", b"default", b"triage", b"", naming_key(b"", "default", "triage")):
        assert Pseudonyms(guess).name("phone", "+49 170 1234567") != named


def test_no_two_of_a_hundred_thousand_values_share_a_token() -> None:
    names = Pseudonyms(KEY)
    said = [names.name("phone", f"+49 170 {number:07}") for number in range(100_000)]
    assert len(set(said)) == len(said)
    # 78 bits: by the birthday bound a thousand million values meet with a chance below one in five hundred thousand.
    assert len(said[0]) == len("<PHONE_>") + 16
    assert said[0][7].isdigit()


@pytest.mark.parametrize("kind", ["phone", "licence", "postcode"])
def test_a_surrogate_of_the_same_form_stands_for_one_value(kind: str) -> None:
    names = Pseudonyms(KEY, SURROGATE)
    said = {names.name(kind, f"{number:04}") for number in range(10_000)}
    assert said == {f"{number:04}" for number in range(10_000)}


def test_letters_and_digits_are_permuted_together() -> None:
    values = [a + b + c for a, b, c in product(string.ascii_uppercase, string.digits, string.ascii_uppercase)]
    names = Pseudonyms(KEY, SURROGATE)
    said = {names.name("licence", value) for value in values}
    assert said == set(values)


@settings(deadline=None)
@given(st.text(max_size=24), st.sampled_from(sorted(FORMS)))
def test_any_text_has_a_surrogate_of_its_length_or_kind(value: str, kind: str) -> None:
    drawn = same_form(value, lambda text: text.encode("utf-8", "replace").ljust(32, b".")[:32])
    assert len(drawn) == len(value)
    assert [each.isdecimal() for each in drawn] == [each.isdecimal() for each in value]
    if value and kind not in ("card", "iban", "ssn", "ip"):
        assert Pseudonyms(KEY, SURROGATE).name(kind, value)


def test_spelling_makes_no_other_value_in_either_style() -> None:
    spelt = {
        "phone": ("+49 170 1234567", "+49-170/1234567", "+491701234567"),
        "card": ("4111 1111 1111 1111", "4111111111111111", "4111-1111-1111-1111"),
        "iban": ("DE89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        "ssn": ("849-66-3189", "849 66 3189"),
        "email": ("Ann@B.org", "ann@b.org"),
    }
    for style in ("token", SURROGATE):
        names = Pseudonyms(KEY, style)
        for kind, values in spelt.items():
            said = {"".join(filter(str.isalnum, names.name(kind, value))) for value in values}
            assert len(said) == 1, (style, kind)


def test_people_keep_apart_where_the_form_has_room() -> None:
    rng, names = random.Random(1), Pseudonyms(KEY, SURROGATE)
    emails = {f"user{number}@example.org" for number in range(50_000)}
    assert len({names.name("email", each) for each in emails}) == len(emails)
    cards = {"4" + "".join(rng.choices(string.digits, k=14)) for _ in range(20_000)}
    valid = [_checked(each) for each in cards]
    assert len({names.name("card", each) for each in valid}) == len(valid)
    v6 = {f"2a00:{number:x}::1" for number in range(20_000)}
    assert len({names.name("ip", each) for each in v6}) == len(v6)


def _checked(digits: str) -> str:
    doubled = [int(each) * 2 - 9 * (int(each) > 4) for each in digits[::-2]]
    return digits + str(-(sum(map(int, digits[-2::-2])) + sum(doubled)) % 10)
