"""Who answered when, drawn so that a person sees it at a glance. Pure: it returns text, and colours only if told to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sidecar.demo.answers import Answers, Outage

_RESET, _GREEN, _RED, _YELLOW, _DIM = "\033[0m", "\033[32m", "\033[31m", "\033[1;33m", "\033[2m"
_SILENCE = "no answer"
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)  # seconds
_LEAST_STEP = 8  # cells between two figures of the scale


@dataclass(frozen=True, slots=True)
class Style:
    """What the terminal can show."""

    unicode: bool
    colour: bool

    def paint(self, text: str, colour: str) -> str:
        """Return the text in a colour, or as it is."""
        return f"{colour}{text}{_RESET}" if self.colour and text.strip() else text


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at that time, in a few words."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The time from ``since`` to ``until``, counted from ``origin`` (all in seconds on the monotonic clock).

    Lines have at most ``width`` characters.
    """

    since: float
    until: float
    origin: float
    width: int
    style: Style
    nodes: Sequence[str]

    def render(self, answers: Answers, *, outages: Sequence[Outage], marks: Sequence[Mark]) -> str:
        """Return the marks, a row for each node, one for the ``outages``, and a scale, without a final newline.

        ``answers`` tells which node answered when; ``outages`` may come from another prober.
        """
        block, nothing = ("█", "·") if self.style.unicode else ("#", ".")
        lines = [*self._marks(marks)]
        for node in self.nodes:
            hit = self._cells((a.at, a.at + answers.interval) for a in answers.received if a.node == node)
            runs = self._runs(hit, block=block, nothing=nothing)
            lines.append(self._label(node) + runs)
        lines.append(self._label(_SILENCE) + self.style.paint(self._silence(outages).rstrip(), _RED))
        lines.append(self._label("") + self.style.paint(self._scale().rstrip(), _DIM))
        return "\n".join(line.rstrip() for line in lines)

    @property
    def _margin(self) -> int:
        return 2 + max(len(label) for label in (_SILENCE, *self.nodes))

    @property
    def _count(self) -> int:
        return max(10, self.width - self._margin)

    def _label(self, text: str) -> str:
        return text.ljust(self._margin)

    def _cell(self, at: float) -> int:
        """Return the cell that a time falls into; below 0 or too large where it is outside."""
        return int((at - self.since) / (self.until - self.since) * self._count // 1)

    def _cells(self, times: Iterable[tuple[float, float]]) -> set[int]:
        cells: set[int] = set()
        for start, end in times:
            cells.update(range(max(0, self._cell(start)), min(self._count - 1, self._cell(end)) + 1))
        return cells

    def _runs(self, hit: set[int], *, block: str, nothing: str) -> str:
        text = ""
        for answered, cells in groupby(range(self._count), key=hit.__contains__):
            length = sum(1 for _ in cells)
            text += self.style.paint((block if answered else nothing) * length, _GREEN if answered else _DIM)
        return text

    def _silence(self, outages: Sequence[Outage]) -> str:
        bar = "▒" if self.style.unicode else "x"
        line = [" "] * self._count
        drawn = [(cells, outage) for outage in outages if (cells := self._cells([(outage.start, outage.end)]))]
        for cells, _ in drawn:
            for cell in cells:
                line[cell] = bar
        for cells, outage in drawn:
            figure = f" {outage.seconds * 1000:,.0f} ms"
            place = slice(max(cells) + 1, max(cells) + 1 + len(figure))
            if place.stop <= self._count and not "".join(line[place]).strip():
                line[place] = figure
        return "".join(line)

    def _marks(self, marks: Sequence[Mark]) -> list[str]:
        """Return the marks' texts, on as many lines as they need not to touch, and a line of pointers below them."""
        pointer = "▼" if self.style.unicode else "v"
        pointers = [" "] * self._count
        lines: list[list[str]] = []
        for mark in sorted(marks, key=lambda mark: mark.at):
            cell = self._cell(mark.at)
            if not 0 <= cell < self._count:
                continue
            pointers[cell] = pointer
            text = mark.text[: self._count]
            start = max(0, min(cell, self._count - len(text)))
            end = start + len(text)
            for line in lines:
                if not "".join(line[max(0, start - 2) : end]).strip():
                    break
            else:
                line = [" "] * self._count
                lines.append(line)
            line[start:end] = text
        return [
            self._label("") + self.style.paint("".join(line).rstrip(), _YELLOW)
            for line in (*reversed(lines), *([pointers] if lines else []))
        ]

    def _scale(self) -> str:
        """Return figures in seconds since the origin, each beginning under the cell of its time."""
        per_second = self._count / (self.until - self.since)
        step = next((step for step in _STEPS if step * per_second >= _LEAST_STEP), _STEPS[-1])
        line = [" "] * self._count
        first = math.ceil(round((self.since - self.origin) / step, 6))
        for figure in range(first, first + self._count):
            cell = self._cell(self.origin + figure * step)
            text = f"{figure * step:g} s"
            if cell >= 0 and cell + len(text) <= self._count:
                line[cell : cell + len(text)] = text
        return "".join(line)
