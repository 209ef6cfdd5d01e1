"""The measurements as a page in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.load import Load, Result
from bench.machine import Machine
from bench.packets import Cost
from sidecar.observe.status import lag_text

_HEAD = """\
# What the engine costs

Written by `make bench`, which needs root for its network namespaces; the numbers as they were measured are in
[engine.json](engine.json). No test asserts on them.
"""
_PACKETS = """\
## One advert

Microseconds of the engine's CPU time, hot in the cache and without system calls: the median of several runs of many
adverts. *Received* is a backup that takes its master's advert from the frame to the timer that starts anew; *sent* is a
master's from its deadline to the frame, and the confirmation of the lease that goes with it. *The rest* is what lies
between the parts: counting, noting the peer, carrying out effects.
"""
_LOADS = """\
## Running

Two real sidecars with all their processes, each in a network namespace of its own, a veth pair between them for each
interface; the groups in a settings file, one IPv4 VIP each, all else as by default. The first node is master of all
groups and the second their backup, both looked at over the same seconds. CPU is in % of one core, as the scheduler
counts it, with what the kernel does in a process's system calls: across a veth pair that includes the way to the other
node's socket. The agent is left out of the CPU: there is no API server here, and it tries to reach one every second.

After a sleep of milliseconds the caches are cold: one group costs more per advert than one of many does.
"""
_START = """\
From the start until it is master of all groups, how long the status of all takes, and how late the master's loop was
since then. Up to 1 ms of that is epoll's, which counts in whole milliseconds; the rest is other programs on the machine
and, with many groups, those that are due at the same moment:
"""
_MEMORY = """\
## Memory

MB (10**6 bytes) of a master: what each process has for itself, and its share of the files that several of them have
mapped, as if nothing else ran on the machine. (The kernel's PSS is lower where other Pythons share the same files.)
"""
_RATES = """\
## One group, ever faster
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was measured, and the machine before and after."""

    before: Machine
    after: Machine
    received: tuple[Cost, ...]
    sent: tuple[Cost, ...]
    loads: tuple[Result, ...] = ()
    rates: tuple[Result, ...] = ()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown that reads well as text too: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(aligned)} |"

    rules = ["-" * width + ("-:" if at else "--") for at, width in enumerate(widths)]
    return "\n".join([line(header), f"|{'|'.join(rules)}|", *(line(row) for row in rows)]) + "\n"


def paragraph(text: str) -> str:
    """Return a paragraph in lines of at most 120 columns."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def page(report: Report) -> str:
    """Return the whole page."""
    parts = [
        _HEAD,
        measured_on(report.before, report.after),
        _PACKETS,
        "Received:\n",
        _costs(report.received),
        "Sent:\n",
        _costs(report.sent),
    ]
    if report.loads:
        parts += [_LOADS, _cpu(report.loads), _MEMORY, _memory(report.loads)]
    if report.rates:
        parts += [_RATES, _rates(report.rates)]
    return "\n".join([*parts, Path(__file__).with_name("notes.md").read_text()])


def publish(path: Path, text: str, report: object) -> None:
    """Write a page, and what was measured into the .json beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def measured_on(before: Machine, after: Machine) -> str:
    """Return the sentence on day, machine and load."""
    system = f"Linux {before.kernel}, Python {before.python}"
    day = datetime.fromtimestamp(before.at, tz=UTC).date()
    return (
        f"Measured on {day}, {before.cores} cores of {before.processor}, {system};\n"
        f"load average {before.load:.1f} at the beginning, {after.load:.1f} at the end.\n"
    )


def _costs(costs: Sequence[Cost]) -> str:
    names = list(costs[0].parts)
    rows = [
        [cost.kind, *(f"{value:.1f}" for value in (cost.total, *(cost.parts[name] for name in names)))]
        for cost in costs
    ]
    return table(["µs", "all", *names], rows)


def _groups(load: Load) -> str:
    return (
        f"{load.groups} on {load.interfaces}" if load.interfaces == 1 else f"{load.groups} on each of {load.interfaces}"
    )


def _cpu(results: Sequence[Result]) -> str:
    header = [
        "groups on interfaces",
        "adverts/s",
        "master: engine %",
        "parent %",
        "both, per group %",
        "backup: engine %",
    ]
    rows = [
        [
            _groups(result.load),
            f"{result.adverts:.0f}",
            f"{result.master['engine']:.2f}",
            f"{result.master['parent']:.2f}",
            f"{(result.master['engine'] + result.master['parent']) / result.load.every:.4f}",
            f"{result.backup['engine']:.2f}",
        ]
        for result in results
    ]
    lags = [
        [_groups(result.load), f"{result.ready:.1f} s", f"{result.status * 1e3:.0f} ms", lag_text(result.lag)]
        for result in results
    ]
    return "\n".join(
        [
            table(header, rows),
            _START,
            table(["groups on interfaces", "master after", "status", "loop lag"], lags),
        ]
    )


def _memory(results: Sequence[Result]) -> str:
    names = list(results[0].memory)
    rows = [
        [_groups(result.load), *(f"{result.memory[name]:.1f}" for name in names), f"{sum(result.memory.values()):.1f}"]
        for result in results
    ]
    return table(["groups on interfaces", *names, "all"], rows)


def _rates(results: Sequence[Result]) -> str:
    rows = [
        [
            f"{result.load.advbase}, {result.load.advskew}",
            f"{result.load.rate:.0f}",
            f"{result.adverts:.1f}",
            f"{result.master['engine']:.2f}",
            f"{result.master['parent']:.2f}",
            f"{result.backup['engine']:.2f}",
            lag_text(result.lag),
        ]
        for result in results
    ]
    header = [
        "advbase, advskew",
        "adverts/s due",
        "sent",
        "master: engine %",
        "parent %",
        "backup: engine %",
        "loop lag",
    ]
    return table(header, rows)
