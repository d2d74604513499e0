"""Cross-entropy through a frozen head: its gradient is taken while the logits are at hand, and they are never kept."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def is_plain(head: Any) -> bool:
    """Whether `token_losses` can stand for the head: linear, frozen, in its own numbers and without a bias."""
    if type(head) is not torch.nn.Linear or head.bias is not None:
        return False
    return not head.weight.requires_grad and type(head.weight) is torch.nn.Parameter


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor, at_once: int) -> Tensor:
    """Losses (nats, fp32) [tokens] of hidden states [tokens, width] under a frozen head [vocabulary, width].

    `at_once` tokens have logits at a time. Beside the loss itself this costs two products in place of the three of
    logits that are computed again for the backward pass.
    """
    return cast("Tensor", _TokenLosses.apply(hidden, weight, targets, at_once))


class _TokenLosses(Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, at_once: int) -> Tensor:
        flat = hidden.to(weight.dtype)
        wanted = ctx.needs_input_grad[0]
        losses = torch.empty(len(flat), dtype=torch.float32, device=flat.device)
        gradient = torch.empty_like(flat) if wanted else None
        for begin in range(0, len(flat), at_once):
            part = slice(begin, begin + at_once)
            chosen = targets[part, None]
            logits = flat[part] @ weight.t()
            loss = -torch.log_softmax(logits, -1, dtype=torch.float32).gather(1, chosen)
            losses[part] = loss[:, 0]
            if gradient is not None:
                odds = torch.softmax(logits, -1)
                # That of the token itself less one, exactly: rounded before, little would be left of it.
                odds.scatter_(1, chosen, torch.expm1(-loss).to(odds.dtype))
                gradient[part] = odds @ weight
        ctx.save_for_backward(gradient)
        ctx.kind = hidden.dtype
        return losses

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * given[:, None]).to(ctx.kind), None, None, None
