"""A served model is the trained one when it says the same to the same prompts; else the first unlike token is named."""

from dataclasses import replace

import pytest

from libs.contracts.parity import Parity, ParityItem, Said, mismatch

TRAINED = ParityItem(
    messages=({"role": "user", "content": "Hello"},),
    prompt_token_ids=(1, 4, 7),
    completion_token_ids=(20, 21, 22, 2),
    logprobs=(-0.1, -0.2, -0.3, -0.1),
    base_logprobs=(-4.0, -5.0, -6.0, -3.0),
)
SAID = Said((1, 4, 7), (20, 21, 22, 2), (-0.11, -0.19, -0.3, -0.1))


def record(*items: ParityItem, precision: str = "fp32") -> Parity:
    return Parity(format=1, precision=precision, items=items or (TRAINED,))


def test_the_same_ids_and_nearly_the_same_log_probabilities_are_the_same_model() -> None:
    assert mismatch(record(), [SAID]) == ""


def test_another_prompt_is_told_with_its_first_token_that_differs() -> None:
    why = mismatch(record(), [replace(SAID, prompt_token_ids=(1, 5, 7))])
    assert why == "prompt 1 ('Hello') is other tokens: token 2 is 5, and 4 where it was trained"


def test_a_prompt_that_ends_early_lacks_a_token() -> None:
    assert "token 3 is missing, and 7" in mismatch(record(), [replace(SAID, prompt_token_ids=(1, 4))])


def test_another_answer_is_told_with_its_first_token_that_differs() -> None:
    why = mismatch(record(), [replace(SAID, token_ids=(20, 99, 22, 2), logprobs=(-0.1, -2.5, -0.3, -0.1))])
    assert why == "prompt 1 ('Hello') is answered otherwise: token 2 is 99, and 21 where it was trained"


def test_answers_may_part_where_both_tokens_were_about_as_likely() -> None:
    tie = TRAINED.model_copy(update={"logprobs": (-0.1, -0.70, -0.3, -0.1)})
    assert mismatch(record(tie), [replace(SAID, token_ids=(20, 99, 5, 6), logprobs=(-0.1, -0.69, -3.0, -3.0))]) == ""


def test_an_answer_cut_short_is_another_answer() -> None:
    assert "token 3 is missing" in mismatch(record(), [replace(SAID, token_ids=(20, 21), logprobs=(-0.1, -0.2))])


def test_an_adapter_that_is_not_in_use_is_recognised_by_the_log_probabilities_of_the_base() -> None:
    assert "the adapter is not in use" in mismatch(record(), [replace(SAID, logprobs=(-4.0, -5.0, -6.0, -3.0))])


@pytest.mark.parametrize(("precision", "passes"), [("fp32", False), ("nf4", True)])
def test_what_was_trained_over_four_bits_may_be_further_away(precision: str, passes: bool) -> None:
    said = replace(SAID, logprobs=(-0.4, -0.5, -0.6, -0.4))
    assert (mismatch(record(precision=precision), [said]) == "") is passes


def test_one_token_far_away_is_no_rounding() -> None:
    far = replace(SAID, logprobs=(-0.1, -0.2, -0.3, -0.6))
    assert "0.5" in mismatch(record(), [far])


def test_no_answer_at_all_is_not_the_same() -> None:
    assert mismatch(record(), [replace(SAID, token_ids=(), logprobs=())])
