"""``carp-sidecar status --watch``: ask again and again, in place on a terminal, else one block after the other."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

_HOME, _TO_END_OF_LINE, _TO_END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_CLEAR = "\x1b[2J"


def watch(  # noqa: PLR0913 - how to sleep and how much fits are for tests
    ask: Callable[[], str | None],
    *,
    out: TextIO,
    in_place: bool,
    every: float,
    sleep: Callable[[float], None] = time.sleep,
    size: Callable[[], tuple[int, int]] = shutil.get_terminal_size,
) -> None:
    """Print what ``ask`` returns, if anything, every so many seconds, until KeyboardInterrupt.

    ``size`` is columns and lines.
    """
    if in_place:
        out.write(_CLEAR)
    try:
        while True:
            block = ask()
            if block is not None:
                out.write(_in_place(block, size()) if in_place else f"{block}\n")
                out.flush()
            sleep(every)
    except KeyboardInterrupt:
        if in_place:
            out.write("\n")


def _in_place(block: str, size: tuple[int, int]) -> str:
    """Return the block from the top of the screen on: no more lines than fit, or each round would scroll."""
    _, height = size
    lines = block.splitlines()
    room = max(1, height - 1)
    if len(lines) > room:
        hidden = len(lines) - room + 1
        lines = [*lines[: room - 1], f"... {hidden} lines more; make the terminal taller, or leave --watch out"]
    return _HOME + "".join(f"{line}{_TO_END_OF_LINE}\n" for line in lines) + _TO_END_OF_SCREEN
