"""A wall clock of its own for one sidecar: an interpreter whose CLOCK_REALTIME is the machine's and a step more.

The machine's own clock is everybody's, and time namespaces cover the other clocks only. So the interpreter reads the
step from a file with each question, in all the processes that are started with it; nothing of the sidecar knows.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

_DOUBLE = struct.Struct("d")
_CUSTOM = """
import mmap, site, struct, time

with open({step!r}, "rb") as file:
    page = mmap.mmap(file.fileno(), {size}, prot=mmap.PROT_READ)


def stepped(real, unit):
    return lambda: real() + unit(struct.unpack("d", page)[0])


real, real_ns = time.clock_gettime, time.clock_gettime_ns
time.time = stepped(time.time, float)
time.time_ns = stepped(time.time_ns, lambda step: int(step * 1e9))
time.clock_gettime = lambda clock: time.time() if clock == time.CLOCK_REALTIME else real(clock)
time.clock_gettime_ns = lambda clock: time.time_ns() if clock == time.CLOCK_REALTIME else real_ns(clock)
site.addsitedir({packages!r})
"""


class Clock:
    """Makes the interpreter in ``directory``; the step is 0 at first."""

    def __init__(self, directory: Path) -> None:
        self._step = directory / "step"
        self.step(0.0)
        environment = directory / "stepped"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        scheme = {"base": str(environment), "platbase": str(environment)}
        place = Path(sysconfig.get_path("purelib", "venv", scheme))
        (place / "sitecustomize.py").write_text(
            _CUSTOM.format(step=str(self._step), size=_DOUBLE.size, packages=sysconfig.get_path("purelib"))
        )
        self.python = str(environment / "bin" / "python")

    def step(self, seconds: float) -> None:
        """Set the wall clock so far ahead of the machine's, or behind it."""
        with self._step.open("r+b" if self._step.exists() else "wb") as file:  # the same file: it is mapped
            file.write(_DOUBLE.pack(seconds))
