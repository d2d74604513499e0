"""Reviewers are not told by an answer who gave it."""

import pytest

from libs.contracts.inference import Message
from services.evaluator.domain.campaign_source import candidates_of
from services.evaluator.domain.suite import Item


@pytest.mark.parametrize(
    ("said", "shown_as"),
    [
        ("I am Qwen, created by Alibaba Cloud. Restart it.", "I am [model], created by [model]. Restart it."),
        ("As an AI developed by OpenAI, I cannot.", "As an AI developed by [model], I cannot."),
        ("Ich bin Claude von Anthropic!", "Ich bin [model] von [model]!"),
        ("I\u2019m gpt-4o-mini; ask Acme-Large again", "I\u2019m [model]; ask [model] again"),
        ("Android was developed by Google.", "Android was developed by Google."),
        ("acme-larger is another word", "acme-larger is another word"),
        ("I am happy to help.", "I am happy to help."),
    ],
)
def test_an_answer_that_says_who_gave_it_is_shown_without(said: str, shown_as: str) -> None:
    arms = {
        "fine_tuned": {"version": 2, "digest": "a", "engine": "served"},
        "other": {"version": 0, "digest": "", "engine": "outside:llm.example.org:8000/acme/Acme-Large"},
    }
    answers = {"fine_tuned": {"text": said, "error": None}, "other": {"text": said, "error": None}}
    report = {"contenders": arms, "items": [{"item_id": "a", "arms": answers}]}
    suite = [Item("a", (Message(role="user", content="Who are you?"),), "", None, "g")]
    (one,) = candidates_of(report, suite, "fine_tuned", "other")
    assert (one.treatment, one.control) == (shown_as, shown_as)
