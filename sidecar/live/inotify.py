"""inotify(7), as much as it takes to hear that something in a directory changed. No polling."""

from __future__ import annotations

import contextlib
import ctypes
import os

_IN_ATTRIB, _IN_CLOSE_WRITE, _IN_MOVED, _IN_CREATE, _IN_DELETE = 0x4, 0x8, 0xC0, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_ONLYDIR = 0x400, 0x800, 0x1000000
_MASK = (
    _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_MOVED | _IN_CREATE | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
)
_READ = 65536
_READS_AT_ONCE = 16


class Inotify:
    """The directories of one listener. Raises OSError where the kernel gives none."""

    __slots__ = ("_fd", "_libc", "_watches")

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._watches: set[int] = set()

    def fileno(self) -> int:
        """Return the descriptor, readable once something has changed."""
        return self._fd

    def close(self) -> None:
        """Listen no more."""
        os.close(self._fd)

    def watch(self, directories: frozenset[str]) -> frozenset[str]:
        """Listen to these directories and to no others; return those that can't be listened to."""
        watches: set[int] = set()
        refused: set[str] = set()
        for directory in directories:
            try:
                watches.add(_checked(self._libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)))
            except OSError:
                refused.add(directory)
        for stale in self._watches - watches:
            self._libc.inotify_rm_watch(self._fd, stale)  # may be gone with its directory
        self._watches = watches
        return frozenset(refused)

    def drain(self) -> None:
        """Read what has been told; which of it matters is seen in the files themselves."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_READS_AT_ONCE):
                os.read(self._fd, _READ)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
