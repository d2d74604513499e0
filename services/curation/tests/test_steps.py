"""What each step repairs, holds back and asks about."""

import json
import sys
from typing import Any

import pytest

from libs.contracts.errors import FailedPrecondition, InvalidInput
from services.curation.compute.mislabels import checked, suspects
from services.curation.compute.pipeline import curate
from services.curation.domain.balance import lacking, shares
from services.curation.domain.heuristics import insults, refuses, repeats
from services.curation.domain.review import Decision
from services.curation.domain.rows import Row
from services.curation.domain.split import TRAIN
from services.curation.domain.suite import messages_of
from services.curation.tests.conftest import ALL_TRAIN, TOPICS, build_rows, built, context_for, only, row, tickets


def test_neighbouring_turns_of_one_role_become_one_and_unknown_roles_are_named() -> None:
    turns = [
        {"role": role, "content": text} for role, text in (("assistant", "hello"), ("user", "hi"), ("user", "you?"))
    ]
    version = built([row(0, "are you there", history=json.dumps(turns))])
    assert only(version).input == "hi\n\nyou?\n\nare you there"
    assert version.ledger.edits() == {"roles_merged": 1}
    broken = row(1, "x", history=json.dumps([{"role": "bot", "content": "y"}]))
    version = built([broken])
    assert version.ledger.removed == {"row-00001": "roles_broken"}
    assert "history[0].role: 'bot'" in version.ledger.examples["roles_broken"][0]["detail"]


@pytest.mark.parametrize(
    ("whole", "turns"),
    [({}, 1), ({"content": [{"type": "text", "text": "late"}]}, 1), ({"name": "bob"}, 2), ({"role": "tool"}, 2)],
)
def test_nobody_is_made_to_say_what_another_said(whole: dict[str, Any], turns: int) -> None:
    history = json.dumps([{"role": "user", "content": "my parcel is blue"}])
    input_as = json.dumps({"role": "user", "content": "late", **whole})
    kept = only(built([row(0, "late", "sorry", history=history, input_as=input_as)]))
    told = messages_of(kept, "")
    assert len(told) == turns
    assert told[-1]["content"] == ("late" if turns == 2 else "my parcel is blue\n\nlate")


def test_a_json_answer_is_taken_out_of_its_code_fence() -> None:
    rows = [row(0, "q", '```json\n{"a": 1}\n```')]
    version = build_rows(rows, data=ALL_TRAIN, output={"format": "json"})
    assert only(version).answer == '{"a": 1}'
    assert version.ledger.edits() == {"answer_fence_removed": 1}


def test_a_pair_loses_its_fences_together_and_one_answer_is_no_pair() -> None:
    bare, fenced, other = '{"a": 1}', '```json\n{"a": 1}\n```', '```json\n{"a": 2}\n```'
    pairs = [(other, fenced), (fenced, fenced), (bare, fenced), (bare, '{"a":1}'), (bare, None)]
    rows = [row(at, f"text {chr(97 + at)} of mine", answer, rejected=lost) for at, (answer, lost) in enumerate(pairs)]

    def left(method: str) -> dict[str, tuple[str | None, str | None]]:
        version = build_rows(rows, data=ALL_TRAIN, output={"format": "json"}, recipe={"method": method})
        assert set(version.ledger.removed.values()) <= {"pair_of_one_answer"}
        return {each.row_id[-1]: (each.answer, each.rejected) for each in version.splits[TRAIN]}

    assert left("dpo") == {"0": ('{"a": 2}', bare), "2": (bare, fenced), "4": (bare, None)}
    assert len(left("lora")) == len(rows)


def test_style_cuts_what_is_unwanted_and_takes_out_what_is_forbidden() -> None:
    rows = [row(0, "one", "Sure! It is done."), row(1, "two", "I guess so")]
    version = built(rows, style={"remove": [r"^Sure!\s*"], "forbid": ["I guess"]})
    assert only(version).answer == "It is done."
    assert version.ledger.removed == {"row-00001": "style_forbidden"}
    with pytest.raises(InvalidInput, match="no regular expression") as raised:
        built(rows, style={"forbid": ["fine", "("]})
    assert raised.value.field == "data.curation.style.forbid[1]"


def test_a_rule_that_is_undone_ends_nothing_that_the_next_rules_do() -> None:
    undone = {"undone": frozenset({"style_forbidden", "input_too_short", "toxic"})}
    style = {"forbid": ["never"], "remove": [r"Yours, Bot$"]}
    kept = only(built([row(0, "why", "never again. Yours, Bot")], undone, style=style))
    assert kept.answer == "never again."
    insult = row(0, "why", "ok you idiot")
    quality = {"min_input": 5, "toxicity": "drop"}
    without = {"undone": frozenset({"input_too_short"})}
    assert built([insult], without, quality=quality).ledger.removed == {"row-00000": "toxic"}
    both = row(0, "why", "I'm sorry, but I can't help with that, you idiot.")
    quality = {"toxicity": "drop", "refusals": "drop"}
    assert built([both], quality=quality).ledger.removed == {"row-00000": "toxic"}
    assert built([both], undone, quality=quality).ledger.removed == {"row-00000": "refusal"}
    assert built([both], quality={**quality, "toxicity": "keep"}).ledger.removed == {"row-00000": "refusal"}


def test_lengths_refusals_insults_and_loops_are_acted_on_as_the_policy_says() -> None:
    rows = [
        row(0, "fix the printer upstairs", "I'm sorry, but I can't help with that."),
        row(1, "my router smells of smoke", "You idiot, switch it off."),
        row(2, "what is the opening time", "open\n" * 6),
        row(3, "hi", "ok"),
    ]
    version = built(rows, quality={"min_input": 3})
    assert version.ledger.removed == {"row-00001": "toxic", "row-00002": "repetitive", "row-00003": "input_too_short"}
    assert {each.row_id: each.kind for each in version.questions} == dict.fromkeys(
        ("row-00000", "row-00001", "row-00002"), "quality"
    )
    assert "idiot" not in version.questions[0].reason
    kept = built(rows, quality={"refusals": "drop", "toxicity": "keep", "repetition": "keep"})
    assert kept.ledger.removed == {"row-00000": "refusal"}


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("As an AI language model, I cannot", True),
        ("I cannot help you with this.", True),
        ("I cannot find the printer in your list; please send its number.", False),
        ("Sorry for the delay, it is fixed.", False),
    ],
)
def test_a_refusal_is_told_from_an_apology(answer: str, refused: bool) -> None:
    assert refuses(answer) is refused


def test_insults_and_repetition_are_told_without_being_quoted() -> None:
    assert insults("what a moron and an idiot") == "2 insulting words"
    assert insults("the parcel is late") is None
    assert repeats("one two three four. " * 20) is not None
    assert repeats(" ".join(f"word{at}" for at in range(80))) is None


def test_other_names_of_a_category_become_the_declared_one_and_unknown_ones_are_held() -> None:
    rows = [row(0, "one", category="bill"), row(1, "two", category="billing"), row(2, "three", category="mystery")]
    version = built(rows, taxonomy={"categories": ["billing", "access"], "aliases": {"bill": "billing"}})
    assert [each.category for each in version.splits[TRAIN]] == ["billing", "billing"]
    assert version.ledger.removed == {"row-00002": "category_unknown"}
    assert version.facts["balance"]["lacking"] == {"access": 1}
    assert [(each.kind, each.row_id) for each in version.questions] == [("category", "row-00002")]


def test_balance_thins_out_large_categories_and_says_what_small_ones_lack() -> None:
    assert shares({"a": 100, "b": 100, "c": 4}, 50, 1.0) == {"a": 50, "b": 50, "c": 4}
    assert shares({"a": 400, "b": 100, "c": 4}, None, 0.5) == {"a": 40, "b": 20, "c": 4}
    assert lacking({"a": 50, "c": 4}, ["a", "d"], 10) == {"c": 6, "d": 10}
    rows = tickets(40, category="big") + tickets(6, 100, category="small")
    version = built(rows, balance={"cap": 10, "floor": 8})
    assert version.ledger.reasons() == {"over_category_cap": 30}
    assert version.facts["balance"]["lacking"] == {"small": 2}
    assert [each.row_id for each in version.splits[TRAIN]] == [
        each.row_id for each in built(rows, balance={"cap": 10, "floor": 8}).splits[TRAIN]
    ]


def mislabelled(count: int) -> tuple[list[Row], set[str]]:
    """Rows whose topic is their category, but for every twenty-first."""
    rows = tickets(count)
    wrong, given = set(), []
    for at, each in enumerate(rows):
        topic = TOPICS[at % 10]
        if at % 21 == 5:
            wrong.add(each.row_id)
        category = TOPICS[(at + 1 + at % 9) % 10] if at % 21 == 5 else topic
        text = f"{topic} trouble again with the {topic} {each.input}"
        given.append(row(at, text, "a", category=category, group=each.group))
    return given, wrong


def test_planted_label_errors_are_found_by_a_model_that_did_not_see_them() -> None:
    rows, wrong = mislabelled(400)
    found = suspects([each.input for each in rows], [str(each.category) for each in rows], folds=5, max_share=0.05)
    named = {rows[each.at].row_id for each in found}
    assert len(named & wrong) >= 0.9 * len(wrong)
    assert len(named - wrong) <= 0.1 * len(named)
    assert suspects(["a"] * 10, ["x"] * 10, folds=5, max_share=0.5) == []


def test_a_column_of_codes_in_the_place_of_categories_costs_no_more_than_two_hundred_of_them() -> None:
    codes = [f"code {at % 1_200:04}" for at in range(6_000)] + ["billing"] * 50
    taught = {codes[at] for at in checked(codes)}
    assert len(taught) == 200
    assert taught == {"billing", *sorted(set(codes[:6_000]))[:199]}
    assert checked(["billing"] * 100) == checked(["billing", "access"] * 19) == []
    assert checked(["billing", "access"] * 20 + ["rare"] * 4) == list(range(40))


def test_suspected_mislabels_wait_for_a_person_with_the_better_category() -> None:
    rows, wrong = mislabelled(200)
    version = built(rows, labels={"mislabels": "hold"})
    asked = {each.row_id: each for each in version.questions if each.kind == "mislabel"}
    held = {name for name, rule in version.ledger.removed.items() if rule == "suspected_mislabel"}
    assert held == set(asked)
    assert held & wrong
    some = next(iter(sorted(held & wrong)))
    assert asked[some].suggestion == TOPICS[int(some[4:]) % 10]
    again = built(rows, {"decisions": {some: Decision(some, "approved", by="ann")}}, labels={"mislabels": "hold"})
    assert some not in again.ledger.removed


def test_equal_rows_of_two_categories_are_asked_about_before_they_merge() -> None:
    def of(*categories: str | None) -> list[Row]:
        return [row(at, "where is it", "here", category=name) for at, name in enumerate(categories)]

    version = built(of("c1", "c2", None), labels={"mislabels": "hold"})
    assert {each.row_id: each.suggestion for each in version.questions} == {"row-00000": "c2", "row-00001": "c1"}
    assert version.ledger.removed == dict.fromkeys(("row-00000", "row-00001"), "suspected_mislabel")
    assert [each.row_id for each in built(of("c1", "c1", "c2"), labels={"mislabels": "hold"}).questions] == [
        "row-00002"
    ]
    known = {"decisions": {"row-00001": Decision("row-00001", "edited", category="c1", by="ann")}}
    (kept,) = built(of("c1", "c2", None), known).splits[TRAIN]
    assert (kept.category, kept.stands_for) == ("c1", 3)
    assert not built(of("c1", "c1", None)).questions


def test_a_question_may_have_many_good_answers_where_the_task_says_so() -> None:
    poems = [row(0, "write a poem", "waves"), row(1, "write a poem", "wind"), row(2, "write a poem", "wind")]
    tied = built(poems[:2])
    assert len(tied.questions) == len(tied.ledger.removed) == 2
    for given, undone in ((poems[:2], "label_conflict_tie"), (poems, "label_conflict_lost")):
        version = built(given, {"undone": frozenset({undone})})
        assert len(version.splits[TRAIN]) == 2
        assert version.questions == []


def test_a_judge_scores_once_and_its_low_scores_hold_rows_back() -> None:
    from services.curation.compute.steps.judge import key_of

    judge = {"url": "http://judge/v1", "model": "m", "at_least": 3}
    rows = [row(0, "one", "good"), row(1, "two", "bad")]
    unjudged = built(rows, judge=judge).facts["unjudged"]
    assert {each["answer"] for each in unjudged} == {"good", "bad"}
    rubric = "How correct, complete and well written is the answer?"
    verdicts = {key_of("m", rubric, "one", "good"): 5, key_of("m", rubric, "two", "bad"): 1}
    version = built(rows, {"verdicts": verdicts}, judge=judge)
    assert version.ledger.removed == {"row-00001": "judged_low"}
    assert version.facts["unjudged"] == []


def test_the_queue_asks_first_what_is_worth_most_per_minute() -> None:
    short = row(0, "printer burns", "a", review="?", category="rare")
    long = row(1, "router " * 400, "a", review="?", category="common")
    version = built([long, short, *tickets(40, 10, category="common")])
    assert [each.row_id for each in version.questions] == ["row-00000", "row-00001"]
    assert version.questions[0].value > version.questions[1].value


def test_the_report_says_what_near_duplicates_were_measured_to_do_and_the_threshold_may_choose_itself() -> None:
    rows = [row(at, f"{each.input} and some more words of its own {at}") for at, each in enumerate(tickets(120))]
    told = built(rows).facts["near_duplicates"]
    assert told["threshold"] == 0.8
    assert told["measured"]["precision"]["value"] >= 0.99
    assert told["measured"]["hard_negatives_merged"]["value"] == 0.0
    data = {**ALL_TRAIN, "duplicates": {"calibrate": True}}
    chosen = build_rows(rows, data=data).facts["near_duplicates"]
    best = max(recall for _, precision, recall in chosen["measured"]["curve"] if precision >= 0.99)
    assert chosen["measured"]["recall"]["value"] == best
    assert [chosen["threshold"]] == [at for at, _, recall in chosen["measured"]["curve"] if recall == best][:1]


def test_rows_that_say_the_same_in_other_words_are_merged_where_the_policy_asks_for_it() -> None:
    rows = [
        row(0, "please cancel my subscription immediately", "done"),
        row(1, "please cancel my subscriptions immediately thanks", "done"),
        row(2, "please cancel 2 subscriptions immediately", "done"),
        *tickets(60, 10),
    ]
    assert "semantic_duplicate" not in built(rows).ledger.reasons()
    data = {**ALL_TRAIN, "duplicates": {"near": False, "semantic": 0.6}}
    version = build_rows(rows, data=data)
    assert version.ledger.removed["row-00001"] == "semantic_duplicate"
    assert "row-00002" not in version.ledger.removed
    assert version.outcomes["merged"] == version.ledger.reasons()["semantic_duplicate"]


def test_an_engine_that_is_not_installed_is_named_and_changes_no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.curation.compute.build import policy_digest

    monkeypatch.setitem(sys.modules, "daft", None)
    context = context_for(data={**ALL_TRAIN, "engine": "ray"})
    with pytest.raises(FailedPrecondition, match="install the extra scale"):
        curate(tickets(3), context)
    local = context_for(data=ALL_TRAIN)
    assert policy_digest(context.spec, context.fractions) == policy_digest(local.spec, local.fractions)
