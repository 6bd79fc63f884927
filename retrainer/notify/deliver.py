"""Delivering an event, and what could not be delivered before. Nothing here raises: no run fails by it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import islice
from typing import get_args

from retrainer.errors import UserError, nearest
from retrainer.notify.event import Event, Kind, from_plain
from retrainer.notify.message import body
from retrainer.services import webhook
from retrainer.services.outbox import Outbox
from retrainer.services.webhook import Patience, Webhook

# A webhook that was away for a year must not be flooded by one run.
_MOST = 20


@dataclass(frozen=True)
class Delivery:
    """What became of an event. `line` says it to a person, and is empty when there was nothing to say.

    complete: nothing is left to deliver. kept: what was not delivered lies where the next run finds it.
    """

    complete: bool
    kept: bool
    line: str = ""


def deliver(event: Event | None, outbox: Outbox, patience: Patience | None = None) -> Delivery:
    """Sends the event, if the webhook wants such ones, then what waits; without a webhook it does nothing."""
    try:
        hook = webhook.configured()
    except UserError as error:
        return _not_delivered(event, outbox, str(error))
    if hook is None:
        return Delivery(True, True)
    if unknown := sorted(hook.events - set(get_args(Kind))):
        reason = f"{webhook.EVENTS}: there is no event {unknown[0]!r}{nearest(unknown[0], get_args(Kind))}"
        return _not_delivered(event, outbox, reason)
    return _Round(hook, outbox, patience or Patience()).run(event)


def _not_delivered(event: Event | None, outbox: Outbox, reason: str) -> Delivery:
    if event is None:
        return Delivery(False, True, f"webhook: {reason}")
    return _undelivered(event, outbox, reason, bool(_kept(event, outbox)))


def _undelivered(event: Event, outbox: Outbox, reason: str, kept: bool) -> Delivery:
    lost = f"and {outbox} could not keep it: it is LOST"
    where = f"kept in {outbox}, for the next run to send" if kept else lost
    return Delivery(False, kept, f"webhook: '{event.event}' was not delivered ({reason}); {where}")


def _kept(event: Event, outbox: Outbox) -> str:
    """The key under which it waits; empty when the place cannot be used."""
    try:
        return outbox.keep(event.plain())
    except (OSError, UserError):
        return ""


@dataclass(frozen=True)
class _Round:
    hook: Webhook
    outbox: Outbox
    patience: Patience

    def run(self, event: Event | None) -> Delivery:
        if event is None or not self._wants(event):
            return self._late("")
        key = _kept(event, self.outbox) if self.outbox.first else ""
        if reason := self._send(event):
            return _undelivered(event, self.outbox, reason, bool(key or _kept(event, self.outbox)))
        if key:
            with contextlib.suppress(OSError, UserError):  # it would only be sent twice
                self.outbox.done(key)
        return self._late(f"'{event.event}' was delivered")

    def _send(self, event: Event) -> str:
        return webhook.send(self.hook, body(event, self.hook.format), self.patience)

    def _wants(self, event: Event) -> bool:
        return not self.hook.events or event.event in self.hook.events | {"test"}

    def _late(self, said: str) -> Delivery:
        """Delivers what waits, newest first, until one is not taken."""
        sent, reason, unread = 0, "", ""
        try:
            for key, plain in islice(self.outbox.waiting(), _MOST):
                event = _read(plain)
                event = event if event is not None and self._wants(event) else None
                if event is not None and (reason := self._send(event)):
                    break
                self.outbox.done(key)
                sent += event is not None
        except (OSError, UserError) as error:
            unread = str(error) if isinstance(error, UserError) else f"error {error.errno}"
        parts = [said, f"older ones delivered: {sent}" if sent else ""]
        parts.append(f"others still wait ({reason})" if reason else "")
        parts.append(f"what waits in {self.outbox} cannot be read ({unread})" if unread else "")
        line = "; ".join(part for part in parts if part)
        return Delivery(not reason and not unread, True, f"webhook: {line}" if line else "")


def _read(plain: dict[str, object]) -> Event | None:
    """None for what is no event of this version: it is dropped, as nobody will ever be able to send it."""
    try:
        return from_plain(plain)
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError):
        return None
