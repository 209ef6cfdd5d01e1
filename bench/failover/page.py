"""The page in Markdown. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from bench.failover.aims import ahead, aims, seconds
from bench.failover.cells import Cell, Cells
from bench.failover.setups import EXPLAINED, Fault, Setup, Timing
from bench.failover.store import Book
from bench.page import paragraph, table

_HEAD = """\
# Failover, side by side

Written by `make bench-failover`, which needs root for its network namespaces; the numbers as they were measured are in
[failover.json](failover.json). No test asserts on them.

![How long nobody answered, and how long two did](failover.svg)
"""
_HOW = """\
## How it was measured

Two nodes and a client on a bridge, each in a network namespace of its own. The preferred node leads, the other one
listens; then the fault, at any moment between two adverts. Each run begins with new processes on a new LAN. The runs
of all products are mixed, some side by side, so that whatever the machine did it did to all of them; LANs are made and
taken down while none is looked at. Each product holds an IPv4 and an IPv6 VIP at once, in a group or instance of its
own (ucarp has IPv4 only), and is at its defaults, but for a preferred node that is better by the least step, and
preempts.

The client is an observer of frames. Every millisecond, for each VIP, it sends an echo request to the MAC that was last
announced for it (by ARP or a neighbour advertisement; no cache of a kernel, which holds an entry for a second, is in
between), through a bridge that learns by what it forwards. *Outage* is the time in which these stayed unanswered.
Every 5 ms it sends one to all nodes, and each node has a TTL of its own: *two answered* is the time in which two nodes
answered the same probe. *Takeover* is from the fault to the other node's first answer; where the node is off the LAN,
from the last probe that it answered, since a busy machine takes a while to take a link down. *Left behind* counts the
runs in which the VIP was still on the node at the end, some seconds after the fault. An outage that lasted to the end
is as long as we looked, and so is what two answered.
"""


def page(book: Book) -> str:
    """Return the page of all that was measured."""
    cells = Cells(book)
    parts = [_HEAD, _machine(book), _aims(cells), _ahead(cells), _HOW, _settings(book, cells), _costs(cells)]
    parts += [_faults(cells, timing) for timing in Timing]
    notes = Path(__file__).with_name("notes.md")
    return "\n".join(part for part in [*parts, notes.read_text()] if part)


def _machine(book: Book) -> str:
    if book.machine is None:
        return ""
    on = book.machine
    times = [one.at for one in book.outcomes]
    loads = sorted(one.load for one in book.outcomes)
    begun, ended = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M") for at in (min(times), max(times)))
    late = sorted(one.pause for one in book.outcomes)
    return paragraph(
        f"Measured from {begun} to {ended} UTC, {on.cores} cores of {on.processor}, Linux {on.kernel}, Python "
        f"{on.python}. Load average {loads[0]:.1f} to {loads[-1]:.1f}, {loads[len(loads) // 2]:.1f} in the median. "
        f"The observer's longest pause in a run: {seconds(late[len(late) // 2])} in the median, "
        f"{seconds(late[-1])} at most."
    )


def _aims(cells: Cells) -> str:
    signs = {True: "reached", False: "**not reached**", None: "not measured"}
    found = [f"- {each.aim}: {signs[each.reached]}. {_sentence(each.measured)}" for each in aims(cells)]
    return "\n".join(["## What was aimed at", "", *found, ""])


def _ahead(cells: Cells) -> str:
    found = ahead(cells)
    return "## Where a peer is ahead\n\n" + ("\n".join(found) if found else "Nowhere in this run.") + "\n"


def _settings(book: Book, cells: Cells) -> str:
    rows = [
        [setup.name, setup.speed.name, seconds(setup.speed.interval), seconds(setup.speed.down)]
        for setup in cells.setups
    ]
    text = "## The settings\n\n" + table(
        ["setup", "preferred and other node", "advert every", "takes over after"], rows
    )
    if book.fastest is None:
        return text
    fastest = book.fastest
    text += "\n" + paragraph(
        f"*Fastest* is the fastest that held a stable master for {fastest.seconds:.0f} s (`make bench-failover-soak`, "
        f"load average {fastest.load:.1f}). These did not:"
    )
    rows = [[name, speed, why] for name, each in fastest.unstable.items() for speed, why in each.items()]
    return text + "\n" + (table(["product", "setting", "why"], rows) if rows else "(all did)\n")


def _costs(cells: Cells) -> str:
    rows = []
    for setup in cells.setups:
        if cost := cells.costs(setup):
            parts = ", ".join(f"{name} {share:.2f}" for name, share in cost.cpu.items())
            sizes = ", ".join(f"{name} {size:.1f}" for name, size in cost.memory.items())
            busy = sum(share for name, share in cost.cpu.items() if name != "agent")
            rows.append(
                [setup.name, f"{busy * 10:.2f} ms ({parts} %)", f"{sum(cost.memory.values()):.1f} MB ({sizes})"]
            )
    if not rows:
        return ""
    text = paragraph(
        "Of both its groups: CPU time per second (and in % of a core by process), and memory as PSS, as if only "
        "these processes ran on the machine. Ours with all three processes; the sum of the CPU leaves out the agent, "
        "which has no API server here and tries to reach one every second."
    )
    return f"## What a master costs\n\n{text}\n{table(['setup', 'CPU per second', 'memory'], rows)}"


def _faults(cells: Cells, timing: Timing) -> str:
    setups = [setup for setup in cells.setups if setup.timing is timing]
    if not cells.of(setups, Fault):
        return ""
    head = [
        "",
        "outage: median",
        "p95",
        "most",
        "two answered: median",
        "most",
        "takeover: median",
        "left behind",
        "runs",
    ]
    text = f"## {timing.capitalize()} timing\n"
    for fault in Fault:
        rows = [_row(cells, setup, fault, version) for setup in setups for version in (4, 6)]
        text += f"\n### {fault.capitalize()}\n\n{_sentence(EXPLAINED[fault])}\n\n{table(head, rows)}"
    return text


def _row(cells: Cells, setup: Setup, fault: Fault, version: int) -> list[str]:
    name = f"{setup.product}, {setup.mac} MAC, IPv{version}"
    cell = cells.cell(setup, fault, version)
    if cell is None:
        return [name, *["-"] * 8]
    outage, two = cell.outage, cell.two
    return [
        name,
        *(_capped(each, cell) for each in (outage.median, outage.p95, outage.most)),
        *(_capped(each, cell) for each in (two.median, two.most)),
        seconds(cell.takeover.median) if cell.takeover and fault is not Fault.HEALED else "-",
        f"{cell.left} of {cell.runs}" if fault in _LEAVES else "-",
        str(cell.runs),
    ]


_LEAVES = (Fault.CRASH, Fault.FREEZE, Fault.LINK_DOWN, Fault.STOP)
"""Where the node could have taken the VIP off, or its kernel."""


def _capped(value: float, cell: Cell) -> str:
    return f"over {seconds(value)}" if value >= cell.looked * 0.97 else seconds(value)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
