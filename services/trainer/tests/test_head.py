"""Losses through a frozen head that never keeps its logits are those of the plain way, and so are their gradients."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from services.trainer.compute.head import is_plain, token_losses

TOKENS, WIDTH, VOCABULARY = 50, 16, 33


@pytest.mark.parametrize("at_once", [1, 7, 50, 64])
def test_losses_and_gradients_are_those_of_logits_that_are_kept(at_once: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, dtype=torch.float64)
    targets, given = torch.randint(0, VOCABULARY, (TOKENS,)), torch.rand(TOKENS)
    kept = cross_entropy(hidden @ weight.t(), targets, reduction="none")
    (wanted,) = torch.autograd.grad((kept * given).sum(), hidden)
    losses = token_losses(hidden, weight, targets, at_once)
    (gradient,) = torch.autograd.grad((losses * given).sum(), hidden)
    torch.testing.assert_close(losses, kept.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_nothing_is_computed_for_a_backward_pass_that_will_not_come() -> None:
    hidden, weight = torch.randn(4, WIDTH, requires_grad=True), torch.randn(VOCABULARY, WIDTH)
    with torch.no_grad():
        assert not token_losses(hidden, weight, torch.zeros(4, dtype=torch.long), 2).requires_grad


def test_a_head_that_learns_or_adds_something_of_its_own_keeps_the_plain_way() -> None:
    frozen = torch.nn.Linear(WIDTH, VOCABULARY, bias=False).requires_grad_(False)
    assert is_plain(frozen)
    assert not is_plain(torch.nn.Linear(WIDTH, VOCABULARY, bias=False))
    assert not is_plain(torch.nn.Linear(WIDTH, VOCABULARY).requires_grad_(False))
    assert not is_plain(torch.nn.Sequential(frozen))
