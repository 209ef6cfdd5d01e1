"""The parent's side of the judge: started, listened to, bounded in time and in what it may say."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.children import describe
from sidecar.live.verdict import Verdict, decode_verdict
from sidecar.reactor import Reactor

ENDS_WITHIN = 20.0
"""Seconds that it may take."""
SAYS_AT_MOST = 16 * 1024 * 1024
_READ = 65536


@dataclass(slots=True, eq=False)
class Trial:
    """One judge that runs."""

    process: subprocess.Popen[bytes]
    ends_by: float
    output: int
    said: bytearray = field(default_factory=bytearray)
    fault: str = ""
    """Why it was ended."""


class Trials:
    """One trial after the other, of the settings whose environment is sealed in ``environment`` (a descriptor).

    ``judged`` gets each verdict; whoever reaps children calls ``ended``.
    """

    def __init__(
        self,
        environment: int,
        reactor: Reactor,
        judged: Callable[[Verdict], object],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.running: Trial | None = None
        self._environment = environment
        self._reactor = reactor
        self._judged = judged
        self._clock = clock
        self._again = False

    def begin(self) -> None:
        """Judge the settings as they are now; where that goes on already, once more afterwards."""
        if self.running is not None:
            self._again = True
            return
        fd = str(self._environment)
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writer, True)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sidecar", "validate", fd, str(os.getpid())],
                pass_fds=(self._environment,),
                stdin=subprocess.DEVNULL,
                stdout=writer,
            )
        except OSError as error:
            os.close(reader)
            self._judged(_failed(f"the process for it cannot be started: {error.strerror}"))
            return
        finally:
            os.close(writer)
        self.running = Trial(process, self._clock() + ENDS_WITHIN, reader)
        self._reactor.watch(reader, self._listen)

    def next(self) -> float:
        """Return when ``tick`` is due, infinity if it is not."""
        return math.inf if self.running is None else self.running.ends_by

    def tick(self, now: float) -> None:
        """End one that takes too long."""
        if self.running is not None and now >= self.running.ends_by:
            self._end(f"it took more than {ENDS_WITHIN:g} s")

    def kill(self) -> None:
        """End it, whatever it would say."""
        if self.running is not None:
            self._end("the sidecar stops")
            self._close(self.running)
            self.running = None

    def ended(self, code: int) -> None:
        """Take the verdict of the one that has ended with this code."""
        trial = self.running
        if trial is None:
            return
        while self._listen():
            pass
        self._close(trial)
        self.running = None
        if self._again:  # what it read may be older than the newest change
            self._again = False
            self.begin()
            return
        verdict = decode_verdict(bytes(trial.said)) if code == 0 and not trial.fault else None
        self._judged(verdict or _failed(trial.fault or f"the process for it {describe(code)}"))

    def _listen(self) -> bool:
        """Take what it says; return whether there may be more."""
        trial = self.running
        if trial is None or trial.output < 0:
            return False
        try:
            data = os.read(trial.output, _READ)
        except BlockingIOError:
            return False
        trial.said += data
        if len(trial.said) > SAYS_AT_MOST:
            self._end(f"the plan has more than {SAYS_AT_MOST} bytes")
            data = b""
        if not data:
            self._close(trial)
        return bool(data)

    def _end(self, fault: str) -> None:
        if self.running is not None:
            self.running.fault, self.running.ends_by = fault, math.inf
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.running.process.pid, signal.SIGKILL)

    def _close(self, trial: Trial) -> None:
        if trial.output >= 0:
            self._reactor.unwatch(trial.output)
            os.close(trial.output)
            trial.output = -1


def _failed(fault: str) -> Verdict:
    return Verdict(plan=None, files={}, lines=(f"the changed settings cannot be checked: {fault}",))
