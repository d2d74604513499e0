"""What stands for a signal: one key for one name under one task and source, beside those of its time."""

from itertools import combinations

from services.ingestion.domain.signals import key_of

MADE = "desk:017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
LATER = "desk:017f22e2-79b1-7000-8000-000000000000"


def test_a_key_stands_for_tenant_task_source_and_name_whatever_the_name_leads_with() -> None:
    names = [
        ("acme", "triage", source, name, *more)
        for source in ("desk", "crm")
        for name in ("f1", MADE, MADE.upper(), LATER)
        for more in ((), ("canary", ""), ("canary", "1"))
    ]
    names += [("acme", "billing", "desk", MADE), ("other", "triage", "desk", MADE)]
    assert all(len(key_of(*each)) == 16 for each in names)
    assert all(key_of(*left) != key_of(*right) for left, right in combinations(names, 2))
    assert [key_of(*each) for each in names] == [key_of(*each) for each in names]


def test_keys_of_names_that_say_when_they_were_made_lie_in_that_order() -> None:
    earlier, later = ([key_of("acme", "triage", source, name) for source in "abcdefgh"] for name in (MADE, LATER))
    assert max(earlier) < min(later)
