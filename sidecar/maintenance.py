"""Maintenance: this node asks to be relieved of every group, over restarts of the sidecar too, until that is over."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

import msgspec

from sidecar.ipc.messages import Demote, Promote
from sidecar.observe.moment import rfc3339
from sidecar.protocol.demotion import HARD

log = logging.getLogger(__name__)

FILE_NAME = "maintenance"
NAME = "maintenance"
_BYTES_AT_MOST = 4096
_REASON_AT_MOST = 200


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Since when (Unix seconds) and why; the file holds it as JSON."""

    since: float
    reason: str


class Maintenance:
    """Whether this node is in maintenance; ``load`` comes first. ``begin`` and ``end`` return a sentence for people."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._state: State | None = None

    def load(self) -> None:
        """Go on where an earlier run of the sidecar ended; a file that can't be understood counts for nothing."""
        try:
            with self._path.open("rb") as file:
                content = file.read(_BYTES_AT_MOST)
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                log.warning("cannot read %s: %s; this node counts as not in maintenance", self._path, error.strerror)
            return
        try:
            state = msgspec.json.decode(content, type=State)
            told = _told(state)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError):  # also a date that no calendar has
            log.warning("%s does not hold what was written to it; this node counts as not in maintenance", self._path)
            return
        self._state = State(since=state.since, reason=one_line(state.reason))
        log.warning("in maintenance since %s", told)

    def begin(self, reason: str) -> str:
        """Begin, or change the reason."""
        reason = one_line(reason)
        before = self._state
        if before is not None and reason in ("", before.reason):
            return f"this node is in maintenance already, since {_told(before)}"
        self._state = State(since=time.time() if before is None else before.since, reason=reason)
        log.warning("maintenance: %s", reason or "no reason given")
        if before is not None:
            return f"this node was in maintenance already, now for another reason: {reason}" + self._keep()
        return "maintenance begins: every group of this node yields to a node that can take over" + self._keep()

    def end(self) -> str:
        """End it."""
        before, self._state = self._state, None
        if before is None:
            return "this node is not in maintenance" + self._keep()
        log.warning("maintenance is over")
        return f"maintenance is over; it began {_told(before)}" + self._keep()

    def instruction(self) -> Demote | Promote:
        """Return what the engine is to be told, whatever it was told before."""
        if self._state is None:
            return Promote(name=NAME)
        return Demote(name=NAME, weight=HARD, detail=self._state.reason or "no reason given")

    def _keep(self) -> str:
        """Write or remove the file; return what there is to say of it."""
        return self._remove() if self._state is None else self._write(self._state)

    def _write(self, state: State) -> str:
        new = self._path.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(state))
            new.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)  # the half of it that a full disk took
            log.warning("cannot write %s: %s", self._path, error.strerror)
            return (
                f"; but a restart of the sidecar will forget it, since {self._path} cannot be written: {error.strerror}"
            )
        return ""

    def _remove(self) -> str:
        try:
            if os.path.lexists(self._path):  # a read-only file system refuses even what is not there
                self._path.unlink()
        except OSError as error:
            log.warning("cannot remove %s: %s", self._path, error.strerror)
            return (
                f"; but a restart of the sidecar goes back into maintenance, since {self._path} cannot be removed: "
                f"{error.strerror}"
            )
        return ""


def _told(state: State) -> str:
    return f"{rfc3339(state.since)} ({state.reason or 'no reason given'})"


def one_line(text: str) -> str:
    """Return a reason as it is logged and kept: one line, at most 200 characters, all of them printable."""
    line = " ".join(text.split())[:_REASON_AT_MOST]
    return "".join(character if character.isprintable() else "?" for character in line)
