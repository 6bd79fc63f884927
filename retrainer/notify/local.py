"""What `make pipeline` and `make retrain` tell of a run on this machine."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from retrainer.notify.event import Event, Kind, judgement_of
from retrainer.services.address import has_webhook, page_of_run
from retrainer.services.lookup import CHAMPION

P = ParamSpec("P")


def _fails_no_run(tell: Callable[P, str]) -> Callable[P, str]:
    """A mistake of ours in here costs the notification, and says so; it never costs the run."""

    @wraps(tell)
    def safe(*arguments: P.args, **options: P.kwargs) -> str:
        try:
            return tell(*arguments, **options)
        except Exception as error:  # its words may hold anything
            return f"webhook: nothing was told, by an error of our own ({type(error).__name__})"

    return safe


@dataclass(frozen=True)
class Notifier:
    """Tells what becomes of one run of a recipe. Every method returns a line for the terminal, or nothing."""

    recipe: str
    root: Path = Path()
    began: float = field(default_factory=time.monotonic)

    @_fails_no_run
    def failed(self, step: str, exit_status: int | None, cause: str = "") -> str:
        """`step` is empty for a run that failed before its first step."""
        return self._tell("failed", step=step, exit_status=exit_status, cause=cause)

    @_fails_no_run
    def last_was_killed(self) -> str:
        """The run before this one could not tell its own end."""
        return self._tell("failed", cause="killed", seconds=None)

    @_fails_no_run
    def registered(self, report: Mapping[str, Any], registration: Mapping[str, Any]) -> str:
        """From the content of metrics.json and registration.json."""
        from retrainer.registry.judgement_tags import judgement_tags

        before, now = report["gate"]["champion"], registration["champion"]
        kind: Kind = "promoted" if registration["alias"] == CHAMPION else "refused"
        same = before and before["model_sha256"] == registration["model_sha256"]
        return self._tell(
            "nothing-new" if kind == "promoted" and same else kind,
            step="register" if same else None,
            model=registration["name"],
            version=str(registration["version"]),
            champion=str(now["version"]) if now else None,
            verdict=registration["verdict"],
            **judgement_of(judgement_tags(report)),
            link=page_of_run(registration["evaluation_run_id"]),
        )

    @_fails_no_run
    def nothing_new(self, model: str, champion: str) -> str:
        """The run stopped before it trained, as the champion's data is today's."""
        return self._tell("nothing-new", step="decide", model=model, champion=champion)

    @_fails_no_run
    def unchanged(self) -> str:
        """Nothing ran: nothing is told but what waits."""
        return self._deliver(None)

    @_fails_no_run
    def test(self) -> str:
        return self._tell("test")

    def _tell(self, kind: Kind, **about: Any) -> str:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        seconds = round(time.monotonic() - self.began, 1)
        event = Event(kind, secrets.token_hex(8), self.recipe, now, **{"seconds": seconds, **about})
        return self._deliver(event)

    def _deliver(self, event: Event | None) -> str:
        if not has_webhook():
            return ""
        # Here, as it loads an HTTP client, which takes long for a run with nothing to do.
        from retrainer.notify.deliver import deliver
        from retrainer.services.outbox import FolderOutbox

        return deliver(event, FolderOutbox(self.root)).line
