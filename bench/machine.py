"""The machine that was measured on, and how busy it was with other things."""

from __future__ import annotations

import os
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine at one moment. ``load`` is the load average of the last minute, ``at`` Unix seconds."""

    processor: str
    cores: int
    kernel: str
    python: str
    load: float
    at: float


def machine() -> Machine:
    """Look at this machine."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return Machine(
        processor=model[1] if model else platform.machine(),
        cores=os.cpu_count() or 1,
        kernel=re.sub(r"[^0-9.].*", "", platform.release()),
        python=platform.python_version(),
        load=os.getloadavg()[0],
        at=time.time(),
    )
