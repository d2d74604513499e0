"""Suites that are made: seeded, disturbed but with the right answer kept, balanced."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.inference import Message
from services.evaluator.clients.harness import Harness
from services.evaluator.domain.presence import Presence
from services.evaluator.domain.prompts import Recipe, dress, passages_of
from services.evaluator.domain.scores import mix_of
from services.evaluator.domain.suite import Item
from services.evaluator.domain.suites.edge import ATTACKS, edge_items
from services.evaluator.domain.suites.general import general_items
from services.evaluator.domain.suites.safety import safety_items
from services.evaluator.handlers.suites import digest_of
from services.evaluator.tests.harness import HARNESS_PYTHON, needs_harness, write_capitals

ITEMS = tuple(
    Item(
        f"i{n}",
        (
            Message(role="system", content="s"),
            Message(role="user", content=f"the printer number {n} is out of paper again"),
        ),
        f"a{n}",
        f"c{n % 3}",
        f"g{n}",
    )
    for n in range(30)
)


def test_the_same_seed_makes_the_same_suite_and_another_seed_another() -> None:
    makers: tuple[Callable[[int], tuple[Item, ...]], ...] = (
        lambda seed: general_items(30, seed, "Follow the request."),
        lambda seed: edge_items(ITEMS, 110, seed),
        lambda seed: safety_items(120, seed, ""),
    )
    for make in makers:
        assert digest_of(make(1)) == digest_of(make(1))
        assert digest_of(make(1)) != digest_of(make(2))


def test_general_items_have_one_right_answer_that_stands_in_the_question() -> None:
    items = general_items(60, 0, "Follow the request.")
    assert Counter(item.category for item in items) == {"copy": 20, "lookup": 20, "form": 20}
    for item in items:
        question = item.messages[-1].content
        values = json.loads(item.answer).values() if item.category == "form" else [item.answer]
        assert all(str(value) in question for value in values)
        assert item.messages[0].role == "system"


def test_edge_items_keep_answer_and_cluster_and_change_the_question_alone() -> None:
    made = edge_items(ITEMS, 220, 0)
    originals = {item.item_id: item for item in ITEMS}
    assert Counter(item.category for item in made) == dict.fromkeys(ATTACKS, 20)
    for item in made:
        _, attack, name = item.item_id.split(":")
        original = originals[name]
        assert item.group == original.group
        assert item.messages[:-1] == original.messages[:-1]
        assert item.messages[-1].content != original.messages[-1].content
        assert (item.answer, item.open) == (("", True) if attack == "empty" else (original.answer, False))
    with pytest.raises(InvalidInput, match="no attack 'typo'; there are typos"):
        edge_items(ITEMS, 10, 0, ["typo"])


def test_a_safety_suite_asks_as_often_for_a_refusal_as_for_an_answer() -> None:
    items = safety_items(120, 0, "Follow the request.")
    assert Counter(item.answer for item in items) == {"refuse": 60, "answer": 60}
    assert len({item.item_id for item in items}) == 120
    assert len({item.group for item in items}) >= 20


def test_a_mix_is_one_for_a_suite_that_has_items_for_some_of_it() -> None:
    items = [*ITEMS[:3], *[item for item in ITEMS if item.category == "c0"]]
    traffic = {"c0": 0.1, "c1": 0.8, "c2": 0.0, "unseen": 0.5}
    assert mix_of(items, traffic) == {"c0": 0.1, "c1": 0.8, "unseen": 0.5}
    assert mix_of(items, {"unseen": 1.0}) is None
    assert mix_of(items, {}) is None


def test_a_dressed_question_sheds_its_examples_before_it_is_given_up() -> None:
    question = ITEMS[0].messages
    pairs = [
        (Message(role="user", content=asked), Message(role="assistant", content=answered))
        for asked, answered in (("like", "A"), ("less like", "B"))
    ]
    variants = dress(question, "task", Recipe(shots=2), pairs)
    assert [message.content for message in variants[0]] == ["s", "less like", "B", "like", "A", question[-1].content]
    assert [len(variant) for variant in variants] == [6, 4, 2]
    shown = dress(question, "task", Recipe(system="mine", passages=1), (), ["the manual says so"])
    assert "the manual says so" in shown[0][0].content
    assert shown[0][0].content.startswith("mine")
    assert shown[-1][0].content == "mine"
    assert dress(question, "task", Recipe()) == (question,)


def test_long_paragraphs_are_cut_with_an_overlap() -> None:
    words = " ".join(str(n) for n in range(250))
    pieces = passages_of(f"short one\n\n{words}")
    assert pieces[0] == "short one"
    assert all(len(piece.split()) <= 120 for piece in pieces)
    assert pieces[1].split()[-20:] == pieces[2].split()[:20]
    assert pieces[-1].split()[-1] == "249"


def test_an_evaluation_steps_back_while_users_are_there_and_never_stops() -> None:
    presence = Presence()
    assert presence.allowed(96, 0.0) == 96
    presence.note(100.0)
    assert [presence.allowed(n, 105.0) for n in (96, 48, 8)] == [24, 16, 8]
    assert presence.allowed(96, 110.0) == 96


def bare_python(directory: Path) -> str:
    """An interpreter without any package, lm-eval least of all."""
    python = directory / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    return str(python)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("copying.yaml", "task: copying", "lm-eval is not installed"),
        ("utils.py", "print('owned')", "is a program"),
        ("evil.yaml", "task: x\ndoc_to_text: !function utils.run", "calls a function"),
    ],
)
async def test_a_harness_suite_runs_no_program_and_says_what_is_missing(
    file: str, content: str, message: str, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / file).write_text(content)
    with pytest.raises(InvalidInput, match=message):
        await Harness(bare_python(tmp_path), 60.0).items(tree, ["copying"], 5, 0)


@needs_harness
async def test_lm_eval_asks_and_scores_in_a_process_of_its_own(tmp_path: Path) -> None:
    write_capitals(tmp_path, 30)
    harness = Harness(HARNESS_PYTHON)
    told = await harness.items(tmp_path, ["capitals"], 10, 0)
    assert len(told["items"]) == 10
    number = told["items"][0]["item_id"].rpartition(":")[2]
    assert told["items"][0]["prompt"] == f"Capital of c{number}?"
    # What stands behind the task's stop sign is no part of an answer.
    answers = {
        each["item_id"]: f"{each['answer'].lower()}\nand more" if place % 2 else "Nowhere"
        for place, each in enumerate(told["items"])
    }
    scores = (await harness.scores(tmp_path, ["capitals"], 10, 0, answers))["scores"]
    assert [scores[each["item_id"]] for each in told["items"]] == [0.0, 1.0] * 5
