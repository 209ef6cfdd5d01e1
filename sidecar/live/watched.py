"""Notices that a file that settings came from has changed, and says so once it stands still.

Files of a ConfigMap or a Secret change by the kubelet's swap of the symlink ``..data`` beside them; plain files are
written, or renamed over. So directories are listened to: each file's own, and that of what its links lead to; where one
is missing, the nearest one that is there, until it comes.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping

from sidecar.live.inotify import Inotify
from sidecar.live.stamp import stamp

log = logging.getLogger(__name__)

SETTLE = 0.2
"""Seconds for which the files must stand still: whoever writes several is done by then."""


class Files:
    """The files that are listened to. ``changed`` is called when they have changed; ``now`` is in monotonic seconds.

    ``begin`` comes first; ``fileno`` is to be served with ``heard``, and ``tick`` called when ``next`` says.
    """

    def __init__(self, changed: Callable[[], object], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = changed
        self._clock = clock
        self._inotify: Inotify | None = None
        self._known: Mapping[str, str] = {}
        """As they were when they were read, or ``changed`` was called, last."""
        self._seen: Mapping[str, str] = {}
        """As they were a moment ago."""
        self._due = math.inf
        self._refused: frozenset[str] = frozenset()

    def begin(self, files: Mapping[str, str]) -> int | None:
        """Listen to these files; return the descriptor to serve, or None where only SIGHUP will tell of changes.

        ``files`` are paths, and the stamps that they bore when they were read.
        """
        try:
            self._inotify = Inotify()
        except OSError as error:
            log.warning("changed settings are noticed at a SIGHUP only: inotify: %s", error.strerror)
            return None
        self.follow(files)
        return self._inotify.fileno()

    def close(self) -> None:
        """Listen no more."""
        self._due = math.inf
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def follow(self, files: Mapping[str, str]) -> None:
        """Listen to these files from now on; what has happened to them since they were read counts."""
        self._known = files
        self._arm()
        if self._inotify is not None and self._stamps() != files:
            self._due = min(self._due, self._clock() + SETTLE)

    def heard(self) -> None:
        """Look, a little later, whether what happened in the directories concerns the files."""
        if self._inotify is not None:
            self._inotify.drain()
            self._due = min(self._due, self._clock() + SETTLE)

    def next(self) -> float:
        """Return when ``tick`` is due, infinity if it is not."""
        return self._due

    def tick(self, now: float) -> None:
        """Look whether the files have changed and stand still again."""
        if now < self._due:
            return
        self._due = math.inf
        self._arm()  # directories come and go
        stamps = self._stamps()
        if stamps == self._known:
            return
        if stamps != self._seen:
            self._seen = stamps
            self._due = now + SETTLE
            return
        self._known = stamps
        self._changed()

    def _stamps(self) -> dict[str, str]:
        return {path: stamp(path) for path in self._known}

    def _arm(self) -> None:
        if self._inotify is None:
            return
        refused = self._inotify.watch(frozenset(each for path in self._known for each in directories(path)))
        for directory in sorted(refused - self._refused):
            log.warning("changed settings in %s are noticed at a SIGHUP only: it cannot be watched", directory)
        self._refused = refused


def directories(path: str) -> set[str]:
    """Return the directories in which a change of the file shows."""
    return {_nearest(os.path.dirname(os.path.abspath(each))) for each in (path, os.path.realpath(path))}  # noqa: PTH100, PTH120 - links as they are


def _nearest(directory: str) -> str:
    while directory != "/" and not os.path.isdir(directory):  # noqa: PTH112 - text all along
        directory = os.path.dirname(directory)  # noqa: PTH120 - as above
    return directory
