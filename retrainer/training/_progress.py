"""What a person sees while a model trains: one bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

# Away from a terminal, at most so many lines are written for epochs, and the last epoch always has one.
_LINES = 10
# After so long without a line, one tells how far the epoch is.
_SECONDS_OF_SILENCE = 30.0


class Progress:
    """Counts rows over all epochs; writes to stderr, or nowhere when `shown` is false.

    `done` rows were trained on before this process began.
    """

    def __init__(self, epochs: int, rows: int, shown: bool, done: int = 0) -> None:
        self.epochs = epochs
        self._rows, self._done = rows, done
        self._lines = shown and not sys.stderr.isatty()
        self._started = self._told = time.perf_counter()
        self._passed = 0
        hidden = not shown or self._lines
        self._bar = tqdm(
            total=epochs * rows, initial=done, desc="train", unit=" rows", unit_scale=True, disable=hidden
        )

    def advance(self, epoch: int, rows: int, loss: float) -> None:
        """`rows` more were trained on, at a mean loss of `loss`."""
        self._bar.update(rows)
        self._bar.set_description_str(f"train, epoch {epoch}/{self.epochs}", refresh=False)
        self._bar.set_postfix_str(f"loss {loss:.4f}")
        self._passed += rows
        if self._lines and time.perf_counter() - self._told >= _SECONDS_OF_SILENCE:
            share = (self._done + self._passed - (epoch - 1) * self._rows) / self._rows
            self._tell(f"train: epoch {epoch}/{self.epochs}, {share:.0%} of its rows, train loss {loss:.4f}")

    def epoch(self, number: int, figures: dict[str, float]) -> None:
        """One epoch is over."""
        self._passed = number * self._rows - self._done  # of an epoch, rows may have been left out
        text = ", ".join(f"{k.replace('_', ' ')} {figures[k]:.4f}" for k in _SHOWN if k in figures)
        self._bar.set_postfix_str(text)
        step = -(-self.epochs // _LINES)
        if self._lines and (number % step == 0 or number == self.epochs):
            self._tell(f"train: epoch {number}/{self.epochs}, {text}")

    def _tell(self, text: str) -> None:
        self._told = time.perf_counter()
        # At least a row: a process may have only the validation of an epoch left to do.
        rate = max(1, self._passed) / (self._told - self._started)
        left = max(0, self.epochs * self._rows - self._done - self._passed) / rate
        print(f"{text}, {rate:,.0f} rows/s, {left:.0f} s left", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._bar.close()


_SHOWN = ("train_loss", "validation_loss", "validation_accuracy")
