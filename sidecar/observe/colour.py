"""Colours for a terminal, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Paint = Callable[[str, str], str]
"""A text and what it is (``master``, ``backup``, ``init``, ``bad``): the text as it is shown."""

_CODES = {"master": "1;32", "backup": "1;34", "init": "1;33", "bad": "1;31", "faint": "2"}


def plain(text: str, _what: str) -> str:
    """Return the text as it is."""
    return text


def coloured(text: str, what: str) -> str:
    """Return the text in the colour of what it is, if that has one."""
    code = _CODES.get(what)
    return text if code is None else f"\x1b[{code}m{text}\x1b[0m"


def palette(*, terminal: bool, environment: Mapping[str, str]) -> Paint:
    """Return ``coloured`` on a terminal that can, unless NO_COLOR is set (no-color.org)."""
    wanted = terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
    return coloured if wanted else plain
