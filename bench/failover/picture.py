"""The picture: for each fault, how long nobody answered and how long two did. SVG for light and dark. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from bench.failover.aims import seconds
from bench.failover.cells import Cell, Cells
from bench.failover.setups import EXPLAINED, Fault, Mac, Product, Setup, Timing
from bench.failover.store import Book

_FAULTS = (Fault.CRASH, Fault.FREEZE, Fault.CUT_OFF, Fault.HEALED, Fault.LINK_DOWN, Fault.STOP, Fault.RETURN)
_WIDTH, _NAMES, _GAP, _BAR, _ROW = 980, 190, 40, 8, 26
_PANEL_HEAD, _TOP = 34, 92
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 18px; font-weight: 600 } .fault { font-weight: 600 } .small { fill: #59636e }
.nobody { fill: #0969da } .two { fill: #cf222e } .line { stroke: #d1d9e0 } .back { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 } .nobody { fill: #4493f8 } .two { fill: #f85149 }
  .line { stroke: #3d444d } .back { fill: #0d1117 }
}
"""


def picture(book: Book) -> str:
    """Return the SVG of medians over IPv4: on the left at default timing, on the right at the fastest stable one."""
    cells = Cells(book)
    columns = [(timing, _setups(cells, timing)) for timing in (Timing.DEFAULT, Timing.FASTEST)]
    columns = [(timing, setups) for timing, setups in columns if cells.of(setups, _FAULTS)]
    rows = max((len(setups) for _, setups in columns), default=0)
    panel = _PANEL_HEAD + rows * _ROW + 14
    height = _TOP + len(_FAULTS) * panel
    width = (_WIDTH - _NAMES * len(columns) - _GAP * (len(columns) + 1)) / max(1, len(columns))
    parts = [_head(height)]
    left = float(_GAP)
    for timing, setups in columns:
        most = _scale(cells, setups)
        parts.append(_text(left, _TOP - 12, f"{timing.capitalize()} timing", kind="fault"))
        for number, fault in enumerate(_FAULTS):
            top = _TOP + number * panel
            parts += _panel(cells, fault, setups, _Place(left=left, top=top, width=width - 70, most=most))
        left += _NAMES + width + _GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def _setups(cells: Cells, timing: Timing) -> list[Setup]:
    return [
        setup
        for product in Product
        for mac in Mac
        if (setup := cells.find(product, timing, mac)) is not None and cells.of([setup], _FAULTS)
    ]


def _head(height: int) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            "<title>Failover: how long nobody answered for the virtual IP, and how long two nodes did</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="back" width="{_WIDTH}" height="{height}"/>',
            _text(_GAP, 30, "Who answers for the virtual IP after a fault?", kind="title"),
            f'<rect class="nobody" x="{_GAP}" y="44" width="14" height="{_BAR}"/>',
            _text(_GAP + 20, 52, "nobody answers the client"),
            f'<rect class="two" x="{_GAP + 190}" y="44" width="14" height="{_BAR}"/>',
            _text(_GAP + 210, 52, "two nodes answer: split brain"),
            _text(_GAP + 420, 52, "medians, IPv4; + : it lasted longer than it was looked at", kind="small"),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a panel is, how long its bars can be, and how many seconds that is."""

    left: float
    top: float
    width: float
    most: float


def _panel(cells: Cells, fault: Fault, setups: list[Setup], place: _Place) -> list[str]:
    left, top = place.left, place.top
    start = left + _NAMES
    parts = [
        _text(left, top + 14, f"{fault.capitalize()}", kind="fault"),
        _text(left + 90, top + 14, _shortened(EXPLAINED[fault]), kind="small"),
        f'<line class="line" x1="{start:.1f}" x2="{start:.1f}" y1="{top + 22:.1f}" '
        f'y2="{top + _PANEL_HEAD + len(setups) * _ROW:.1f}"/>',
    ]
    for row, setup in enumerate(setups):
        y = top + _PANEL_HEAD + row * _ROW
        mac = "" if setup.product is Product.UCARP else f", {setup.mac} MAC"
        parts.append(_text(left, y + 12, f"{setup.product}{mac}"))
        cell = cells.cell(setup, fault)
        if cell is None:
            parts.append(_text(start + 6, y + 12, "-", kind="small"))
            continue
        bars = (("nobody", cell.outage.median), ("two", cell.two.median))
        for number, (kind, value) in enumerate(bars):
            length = place.width * value / place.most
            above = y + number * (_BAR + 2)
            parts.append(f'<rect class="{kind}" x="{start:.1f}" y="{above:.1f}" width="{length:.1f}" height="{_BAR}"/>')
            if value >= 0.0005 or number == 0:
                parts.append(_text(start + length + 6, above + 8, _label(value, cell), kind="small", size=10))
    return parts


def _label(value: float, cell: Cell) -> str:
    return seconds(value) + ("+" if value >= cell.looked * 0.97 else "")


def _scale(cells: Cells, setups: list[Setup]) -> float:
    values = [max(cell.outage.median, cell.two.median) for *_, cell in cells.of(setups, _FAULTS)]
    return max([*values, 0.001])


def _shortened(text: str) -> str:
    return text if len(text) <= 58 else text[:57].rsplit(" ", 1)[0] + " …"


def _text(x: float, y: float, text: str, *, kind: str = "", size: int = 0) -> str:
    style = f' style="font-size:{size}px"' if size else ""
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{name}{style}>{escape(text)}</text>'
