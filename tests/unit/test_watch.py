"""Watching: in place where somebody looks at it, block by block where something reads it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import pytest

from sidecar.watch import watch


def watched(blocks: Iterable[str | None], *, in_place: bool, lines: int = 24) -> str:
    """Return what is printed until Ctrl-C, which comes in the sleep after the last block."""
    left = list(blocks)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if not left:
            raise KeyboardInterrupt

    out = io.StringIO()
    ask: Callable[[], str | None] = lambda: left.pop(0)  # noqa: E731
    watch(ask, out=out, in_place=in_place, every=2.0, sleep=sleep, size=lambda: (80, lines))
    assert set(slept) == {2.0}
    return out.getvalue()


def test_for_programs_one_block_after_the_other_and_no_control_characters() -> None:
    assert watched(["a\nb\n", None, "c"], in_place=False) == "a\nb\n\nc\n"


def test_on_a_terminal_each_block_replaces_the_one_before() -> None:
    shown = watched(["one\ntwo\nthree", "four"], in_place=True)
    assert shown == (
        "\x1b[2J"
        "\x1b[Hone\x1b[K\ntwo\x1b[K\nthree\x1b[K\n\x1b[J"
        "\x1b[Hfour\x1b[K\n\x1b[J"
        "\n"
    )  # fmt: skip


@pytest.mark.parametrize(("lines", "shown"), [(11, 10), (10, 9), (5, 4), (2, 1), (1, 1)])
def test_no_more_lines_than_the_terminal_has(lines: int, shown: int) -> None:
    text = watched(["\n".join(f"line {number}" for number in range(10))], in_place=True, lines=lines)
    printed = text.count("\x1b[K\n")
    assert printed == shown
    if shown < 10:
        assert f"... {10 - shown + 1} lines more" in text
