"""The tiny base: it loads, stays small, renders its template, and its corpus does not teach triage."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import triage.base.__main__ as making
from triage.base.corpus import MAKERS, TRIAGE_KEYS, prose, task
from triage.base.init import build
from triage.base.pretrain import Plan
from triage.base.tokenizer import make_tokenizer
from triage.language import TEAMS
from triage.second_base import BASE, second_base
from triage.tickets import SYSTEM_PROMPT, tickets
from triage.trial import prompt


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small matrices gain nothing from a second thread, and on a busy machine threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(BASE)


def test_the_shipped_base_is_a_small_llama_in_bfloat16(tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(BASE)
    assert model.config.model_type == "llama"
    assert model.dtype == torch.bfloat16
    assert model.num_parameters() <= 12_000_000
    assert (BASE / "model.safetensors").stat().st_size <= 25_000_000
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.vocab_size == len(tokenizer)


def test_the_same_seed_gives_the_shipped_tokenizer(tokenizer: Any) -> None:
    assert make_tokenizer(7).get_vocab() == tokenizer.get_vocab()


def test_the_same_seed_gives_the_same_untrained_model() -> None:
    one, two = build(300, 7).state_dict(), build(300, 7).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_untrained_base_already_copies() -> None:
    model = build(4096, 7).eval()
    torch.manual_seed(1)
    half = torch.randint(300, 4000, (8, 40))
    ids = torch.cat([torch.ones(8, 1, dtype=torch.long), half, half], 1)
    with torch.no_grad():
        best = model(input_ids=ids).logits[:, 41:-1].argmax(-1)
    assert (best == ids[:, 42:]).float().mean() > 0.5


def test_prompts_and_answers_are_short(tokenizer: Any) -> None:
    rows = list(tickets(1, 300))
    assert max(len(tokenizer(prompt(tokenizer, row.text)).input_ids) for row in rows) <= 110
    assert max(len(tokenizer(row.answer).input_ids) + 1 for row in rows) <= 35


@pytest.mark.parametrize("text", ["naïve “x” {{Order Number}}\n\t 1234 €", "AB-12345 İstanbul  \u0000", ""])
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_template_renders_roles_and_marks_what_the_assistant_said(tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == f"<|bos|><|system|>{SYSTEM_PROMPT}<|end|><|user|>Hi<|end|><|assistant|>Yes<|end|>"
    out = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    said = [i for i, m in zip(out["input_ids"], out["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(said) == "Yes<|end|>"
    opened = tokenizer.apply_chat_template(messages[:2], add_generation_prompt=True, tokenize=False)
    assert opened == text.removesuffix("Yes<|end|>")


def test_the_corpus_never_names_a_team_and_never_shows_the_triage_schema() -> None:
    rng = random.Random(5)
    for _ in range(600):
        one, plain = task(rng), prose(rng)
        assert SYSTEM_PROMPT not in (one.system, one.question)
        assert not any(team in plain for team in TEAMS.values())
        if one.answer.startswith("{"):
            assert len(TRIAGE_KEYS & set(json.loads(one.answer))) <= 1
    for _ in range(150):
        for kind in ("read", "extract_ticket", "fitting", "same_topic"):
            assert not any(team in MAKERS[kind](rng)[1] for team in TEAMS.values())


def test_no_task_on_a_ticket_answers_with_a_category() -> None:
    rng = random.Random(6)
    labels = set(TEAMS)
    for kind in ("read", "extract_ticket", "fitting", "same_topic", "odd_one", "related"):
        for _ in range(150):
            assert MAKERS[kind](rng)[1] not in labels


def test_another_architecture_can_take_its_place(tmp_path: Path) -> None:
    made = second_base(tmp_path, 7)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.model_type == "qwen3"
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), loaded.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template


def test_a_making_stopped_between_its_phases_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = make_tokenizer(3, documents=200)
    monkeypatch.setattr(making, "make_tokenizer", lambda _: small)
    monkeypatch.setattr(making, "probe", lambda *_: {"copy": 0.0})  # what is known is not what this is about
    plan = Plan(task_steps=2, mixed_steps=2, tasks_per_step=4, window=64, windows_per_step=2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    making.make(whole, 3, plan)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(making, "train_mixed", stopped)
        with pytest.raises(KeyboardInterrupt):
            making.make(parts, 3, plan)
    with monkeypatch.context() as patch:
        patch.setattr(making, "train_tasks", stopped)
        making.make(parts, 3, plan)
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    assert not (parts / making.MARK).exists()
