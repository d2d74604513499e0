"""Fewer messages where many answers stream: what comes within a moment of the last message waits for the next piece."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from services.serving.engine.domain.generation import Piece


@dataclass(slots=True)
class Coalescer:
    """Joins the pieces of one request. `window` in seconds, asked anew with each piece; 0 joins nothing.

    The first piece of an answer leaves at once, and so does its last, with all that was held. A piece waits for the
    next one only, so that nothing is held longer than the model takes for a step beyond the window.
    """

    window: Callable[[], float]
    clock: Callable[[], float] = time.monotonic
    _held: dict[int, Piece] = field(default_factory=dict)
    _left_at: dict[int, float] = field(default_factory=dict)

    def feed(self, piece: Piece) -> Piece | None:
        """What is to be sent now, if anything."""
        held = self._held.pop(piece.index, None)
        if held is not None:
            piece = replace(
                piece,
                text=held.text + piece.text,
                token_ids=held.token_ids + piece.token_ids,
                logprobs=held.logprobs + piece.logprobs,
                chances=held.chances + piece.chances,
            )
        now = self.clock()
        left_at = self._left_at.get(piece.index)
        if piece.finish_reason or left_at is None or now - left_at >= self.window():
            self._left_at[piece.index] = now
            return piece
        self._held[piece.index] = piece
        return None
