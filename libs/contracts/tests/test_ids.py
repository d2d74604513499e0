"""Ids that say when they were made."""

import time
import uuid

import pytest

from libs.contracts.ids import moment_of, new_id


def test_an_id_is_a_uuid_of_version_7_that_says_when_it_was_made_and_sorts_by_it() -> None:
    before = time.time_ns() // 1_000_000
    names = [new_id("turn") for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(names)) == 1000
    for name in names:
        prefix, digits = name.split("-")
        made = uuid.UUID(digits)
        assert (prefix, made.version, made.variant) == ("turn", 7, uuid.RFC_4122)
        assert before <= int.from_bytes(moment_of(name) or b"") <= after
    time.sleep(0.002)
    assert max(names) < new_id("turn")


@pytest.mark.parametrize(
    "name",
    [
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",  # the example of RFC 9562
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "017f22e279b07cc398c4dc0c0c07398f",
        "desk:017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        "req-017f22e279b07cc398c4dc0c0c07398f",
    ],
)
def test_a_uuid_of_version_7_leads_with_its_moment_however_it_is_written(name: str) -> None:
    assert moment_of(name) == bytes.fromhex("017f22e279b0")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "fb-000000017",
        "919108f7-52d1-4320-9bac-f847db4148a8",  # version 4
        "017f22e2-79b0-7cc3-18c4-dc0c0c07398f",  # another variant
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f-1",
        "017f22e2-79b0-7cc3-98c4-dc0c0c0739 8",
        "a name of thirty-two letters or more, which is no UUID at all",
        "ключ-" + "я" * 40,
    ],
)
def test_other_names_say_nothing_of_their_moment(name: str) -> None:
    assert moment_of(name) is None
