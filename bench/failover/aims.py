"""What was aimed at, and what was measured: a sentence each, and whether it is reached. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from bench.failover.cells import Cell, Cells
from bench.failover.observer import ALL_EVERY
from bench.failover.setups import ADVSKEW_4, Fault, Mac, Product, Setup, Timing

UNPLANNED = (Fault.CRASH, Fault.CUT_OFF, Fault.LINK_DOWN)
PEERS = (Product.KEEPALIVED, Product.UCARP)
SLACK = 0.050
CRASH_OUTAGE, FAST, PLANNED, PLANNED_VIRTUAL = 1.0, 0.100, 0.100, 0.020
ENGINE, MEMORY = 1.0, 80.0
RESOLUTION = ALL_EVERY / 1000
"""Seconds between two probes that both may answer."""
_TEN_TIMES = 10.0


@dataclass(frozen=True, slots=True)
class Aim:
    """``reached`` is None where something that it takes was not measured."""

    aim: str
    measured: str
    reached: bool | None


def aims(cells: Cells) -> list[Aim]:
    """Return all, in the order of importance to a user."""
    return [
        *(_takeover(cells, fault) for fault in UNPLANNED),
        _bounded(cells),
        _crash(cells),
        _fastest(cells),
        _advskew_4(cells),
        _planned(cells),
        _planned_virtual(cells),
        *(_alone(cells, fault) for fault in Fault),
        _engine(cells),
        _memory(cells),
    ]


def seconds(value: float) -> str:
    """Write a time as people read it: 3.61 s, 85 ms, 0."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.0f} ms" if value >= 0.0005 else "0"


def ratio(ours: float, theirs: float) -> str:
    """Write by how much we are shorter or longer."""
    if ours <= 0:
        return "nothing against something" if theirs > 0 else "both nothing"
    return f"{theirs / ours:.1f} times shorter" if ours <= theirs else f"{ours / max(theirs, 1e-9):.1f} times longer"


def _takeover(cells: Cells, fault: Fault) -> Aim:
    aim = f"{fault}: takeover at default timing at least as fast as keepalived's"
    ours, theirs = (_cell(cells, product, fault) for product in (Product.OURS, Product.KEEPALIVED))
    if not (ours and theirs and ours.takeover and theirs.takeover):
        return Aim(aim, _UNKNOWN, None)
    mine, other = ours.takeover.median, theirs.takeover.median
    said = f"median {seconds(mine)} against {seconds(other)}: {ratio(mine, other)}"
    return Aim(aim, said, mine <= other)


def _bounded(cells: Cells) -> Aim:
    aim = f"crash, cut off, link down: takeover at default timing never above master-down + {seconds(SLACK)}"
    setup = cells.find(Product.OURS, Timing.DEFAULT, Mac.INTERFACE)
    found = [] if setup is None else [cell.takeover for *_, cell in cells.of([setup], UNPLANNED)]
    if setup is None or not found or None in found:
        return Aim(aim, _UNKNOWN, None)
    most = max(each.most for each in found if each)
    return Aim(
        aim, f"at most {seconds(most)}; master-down is {seconds(setup.speed.down)}", most <= setup.speed.down + SLACK
    )


def _crash(cells: Cells) -> Aim:
    aim = (
        f"the whole sidecar killed: an outage of at most {seconds(CRASH_OUTAGE)} in the median, and never two answerers"
    )
    ours = _cell(cells, Product.OURS, Fault.CRASH)
    if ours is None:
        return Aim(aim, _UNKNOWN, None)
    said = f"median {seconds(ours.outage.median)}; two answered for {seconds(ours.two.most)} at most"
    return Aim(aim, said, ours.outage.median <= CRASH_OUTAGE and ours.two.most == 0)


def _fastest(cells: Cells) -> Aim:
    aim = "cut off: takeover at the fastest stable timing shorter than keepalived's"
    found = []
    for mac in Mac:
        ours, theirs = (
            cells.cell(cells.find(product, Timing.FASTEST, mac), Fault.CUT_OFF)
            for product in (Product.OURS, Product.KEEPALIVED)
        )
        if ours and theirs and ours.takeover and theirs.takeover:
            found.append((mac, ours.takeover.median, theirs.takeover.median))
    if not found:
        return Aim(aim, _UNKNOWN, None)
    said = "; ".join(f"{mac} MAC: {seconds(a)} against {seconds(b)}, {ratio(a, b)}" for mac, a, b in found)
    return Aim(aim, said, all(mine < other for _, mine, other in found))


def _advskew_4(cells: Cells) -> Aim:
    aim = f"cut off at {ADVSKEW_4.name}, virtual MAC: an outage under {seconds(FAST)} in the median"
    cell = cells.cell(cells.find(Product.OURS, Timing.ADVSKEW_4, Mac.VIRTUAL), Fault.CUT_OFF)
    return Aim(aim, _UNKNOWN, None) if cell is None else _under(aim, cell, FAST)


def _planned(cells: Cells) -> Aim:
    aim = f"planned stop: an outage under {seconds(PLANNED)}, ten times shorter than ucarp's"
    ours, theirs = (_cell(cells, product, Fault.STOP) for product in (Product.OURS, Product.UCARP))
    if ours is None or theirs is None:
        return Aim(aim, _UNKNOWN, None)
    mine, other = ours.outage.median, theirs.outage.median
    said = (
        f"median {seconds(mine)}, at most {seconds(ours.outage.most)}, against {seconds(other)}: {ratio(mine, other)}"
    )
    return Aim(aim, said, mine < PLANNED and mine * _TEN_TIMES <= other)


def _planned_virtual(cells: Cells) -> Aim:
    aim = f"planned stop with virtual MAC: an outage under {seconds(PLANNED_VIRTUAL)} (a goal)"
    cell = cells.cell(cells.find(Product.OURS, Timing.DEFAULT, Mac.VIRTUAL), Fault.STOP)
    return Aim(aim, _UNKNOWN, None) if cell is None else _under(aim, cell, PLANNED_VIRTUAL)


def _alone(cells: Cells, fault: Fault) -> Aim:
    aim = f"{fault}: no time with two answerers at default timing"
    if fault is Fault.HEALED:
        aim = f"{fault}: two answerers for an advert interval at most at default timing, to {seconds(RESOLUTION)}"
    ours = _of(cells, Product.OURS, fault)
    if not ours:
        return Aim(aim, _UNKNOWN, None)
    most = max(cell.two.most for *_, cell in ours)
    others = [
        f"{product} {seconds(max(cell.two.most for *_, cell in found))}"
        for product in PEERS
        if (found := _of(cells, product, fault))
    ]
    allowed = ours[0][0].speed.interval + RESOLUTION if fault is Fault.HEALED else 0.0
    return Aim(aim, f"{seconds(most)} at most; {', '.join(others)}", most <= allowed)


def _engine(cells: Cells) -> Aim:
    aim = f"engine under {ENGINE:.0f} % of a core per group at advbase 1"
    setup = cells.find(Product.OURS, Timing.DEFAULT, Mac.INTERFACE)
    cost = cells.costs(setup) if setup else None
    if setup is None or cost is None:
        return Aim(aim, _UNKNOWN, None)
    share = cost.cpu["engine"] / len(setup.versions)
    return Aim(aim, f"{share:.2f} %", share < ENGINE)


def _memory(cells: Cells) -> Aim:
    aim = f"all processes together under {MEMORY:.0f} MB PSS"
    setup = cells.find(Product.OURS, Timing.DEFAULT, Mac.INTERFACE)
    cost = cells.costs(setup) if setup else None
    if cost is None:
        return Aim(aim, _UNKNOWN, None)
    total = sum(cost.memory.values())
    parts = ", ".join(f"{name} {size:.1f}" for name, size in cost.memory.items())
    return Aim(aim, f"{total:.1f} MB ({parts})", total < MEMORY)


_UNKNOWN = "something that it takes is missing"


def _under(aim: str, cell: Cell, limit: float) -> Aim:
    said = f"median {seconds(cell.outage.median)}, at most {seconds(cell.outage.most)}"
    return Aim(aim, said, cell.outage.median < limit)


def _cell(cells: Cells, product: Product, fault: Fault) -> Cell | None:
    """The plainest case: the default timing, the interface's MAC, IPv4."""
    return cells.cell(cells.find(product, Timing.DEFAULT, Mac.INTERFACE), fault)


def _of(cells: Cells, product: Product, fault: Fault) -> list[tuple[Setup, Fault, int, Cell]]:
    setups = [each for each in cells.setups if (each.product, each.timing) == (product, Timing.DEFAULT)]
    return cells.of(setups, [fault])


def ahead(cells: Cells) -> list[str]:
    """Say where a peer is better: by the client's outage, of the same timing, MAC and IP version."""
    found = []
    for theirs in cells.setups:
        ours = cells.find(Product.OURS, theirs.timing, theirs.mac)
        if theirs.product is Product.OURS or ours is None:
            continue
        for _, fault, version, cell in cells.of([theirs], Fault):
            mine = cells.cell(ours, fault, version)
            if mine is None or mine.outage.median <= max(cell.outage.median + 0.005, cell.outage.median * 1.1):
                continue
            said = f"- **{fault}**, {theirs.timing} timing, {theirs.mac} MAC, IPv{version}: {theirs.product}"
            said += f" {seconds(cell.outage.median)} without an answer, we {seconds(mine.outage.median)} (medians)."
            if cell.two.median > mine.two.median:
                said += f" At that price: two nodes answered for {seconds(cell.two.median)}"
                said += ", and would until somebody repaired it." if cell.left else "."
            found.append(said)
    return found
