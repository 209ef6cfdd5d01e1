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
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, and exec would keep that
    environment = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("LC_")}
    try:
        os.execve(argv[0], argv, environment)  # noqa: S606 - what the settings name
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error.strerror}\n")
    return _CANNOT_RUN
