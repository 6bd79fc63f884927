"""What a person sees while rows are predicted: a bar on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

_LINE_SECONDS = 30.0


class ProgressBar:
    """Counts rows, on stderr. `done` of them were predicted before this process began."""

    def __init__(self, total: int | None, done: int) -> None:
        self._piped = not sys.stderr.isatty()
        self._total, self._rows, self._begun_with = total, done, done
        self._started = self._last = time.monotonic()
        self._bar = tqdm(
            total=total, initial=done, desc="predict", unit=" rows", unit_scale=True, disable=self._piped
        )

    def advance(self, rows: int) -> None:
        self._rows += rows
        self._bar.update(rows)
        now = time.monotonic()
        if self._piped and now - self._last >= _LINE_SECONDS:
            self._last = now
            rate = (self._rows - self._begun_with) / (now - self._started)
            of = f" of {self._total:,}" if self._total else ""
            print(f"predict: {self._rows:,}{of} rows, {rate:,.0f} rows/s", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._bar.close()
