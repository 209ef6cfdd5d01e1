"""Points in time: as the processes count them among themselves, and as people read them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def boot_time() -> float:
    """Return seconds on CLOCK_BOOTTIME: no wall clock step moves it, and it goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def rfc3339(seconds: float) -> str:
    """Return Unix ``seconds`` in UTC to the millisecond, e.g. ``2026-11-23T04:40:08.068Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
