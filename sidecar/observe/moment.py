"""Points in time as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """Return Unix ``seconds`` in UTC to the millisecond, e.g. ``2026-11-23T04:40:08.068Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
