"""The process that turns into an up or down command: rights given up first, then exec."""

from __future__ import annotations

import os
import signal
import sys

from sidecar import privileges

_CANNOT_RUN = 126
_PASSED_ON = ("PATH", "HOME", "LANG", "LANGUAGE", "TZ")
"""What a command gets of our environment: a proxy's URL, for one, may hold a password."""


def main(*, parent: int, argv: list[str]) -> int:
    """Become ``argv``; return an exit code only where that is not possible, as a shell has it."""
    privileges.keep_network_rights()
    privileges.die_with_parent(parent)
    _hear_every_signal()
    environment = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("LC_")}
    try:
        os.execve(argv[0], argv, environment)  # noqa: S606 - what the settings name
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error.strerror}\n")
    return _CANNOT_RUN


def _hear_every_signal() -> None:
    """Undo what Python ignores (SIGPIPE, SIGXFSZ) and what whoever started us does (nohup): exec would keep it."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
