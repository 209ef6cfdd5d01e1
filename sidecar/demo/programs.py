"""A program run as a child that never outlives its parent, with its output in a file."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(slots=True)
class Program:
    """One program: ``argv``, and the file that its output goes to (appended to, so that a restart keeps the past).

    It has a session of its own, since a Ctrl-C in the terminal is the parent's to handle, and the kernel kills it when
    the thread that started it ends (PR_SET_PDEATHSIG, set by util-linux's ``setpriv``): start it from a lasting thread.
    The environment is bare, so that no proxy, kubeconfig or secret of the user's reaches it.
    """

    argv: Sequence[str]
    log: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the program. Raises OSError where ``setpriv`` is missing or the log can't be written."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                env={"PATH": os.defpath, "HOME": str(self.log.parent)},
                start_new_session=True,
            )

    @property
    def name(self) -> str:
        """What the log is called after."""
        return self.log.stem

    @property
    def pid(self) -> int | None:
        """The process id, or None where it doesn't run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where it doesn't run."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, frozen or not, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def last_lines(self, count: int = 15) -> str:
        """Return the end of its output, for an error message."""
        try:
            text = self.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-count:])
