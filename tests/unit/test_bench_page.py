"""The benchmarks' page: its tables render, so that it does not rot between two measurements."""

from __future__ import annotations

from bench.load import Load, Result
from bench.machine import machine
from bench.packets import Cost
from bench.page import Report, page, table
from sidecar.ipc.messages import LagStatus

COST = Cost(kind="IPv4, sealed", total=27.34, parts={"parse": 5.44, "the rest": 21.9})
LAG = LagStatus(buckets=((0.001, 100),), count=100, sum=0.05, maximum=0.0009)


def result(load: Load) -> Result:
    return Result(
        load=load,
        ready=5.21,
        status=0.02,
        memory={"parent": 29.7, "engine": 22.8, "agent": 51.3},
        master={"parent": 2.5, "engine": 5.04, "agent": 0.2},
        backup={"parent": 0.0, "engine": 4.4, "agent": 0.2},
        adverts=1019.6,
        lag=LAG,
    )


def test_a_table_is_aligned() -> None:
    assert table(["groups", "%"], [["1", "0.05"], ["255 on 4", "5.20"]]) == (
        "| groups   |    % |\n"
        "|----------|-----:|\n"
        "| 1        | 0.05 |\n"
        "| 255 on 4 | 5.20 |\n"
    )  # fmt: skip


def test_a_page_without_network_namespaces_has_the_packets_alone() -> None:
    now = machine()
    text = page(Report(before=now, after=now, received=(COST,), sent=(COST,)))
    assert "| IPv4, sealed | 27.3 |   5.4 |     21.9 |" in text
    assert "## Running" not in text


def test_a_full_page_says_what_every_load_costs() -> None:
    now = machine()
    loads = tuple(result(Load(groups=255, interfaces=interfaces)) for interfaces in (1, 4))
    rates = (result(Load(groups=1, advbase=0, advskew=4)),)
    text = page(Report(before=now, after=now, received=(COST,), sent=(COST,), loads=loads, rates=rates))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert ["255 on each of 4", "1020", "5.04", "2.50", "0.0074", "4.40"] in rows
    assert ["255 on 1", "5.2 s", "20 ms", "99 % under 1 ms, at most 0.9 ms in 100 wake-ups"] in rows
    assert ["255 on 1", "29.7", "22.8", "51.3", "103.8"] in rows
    assert ["0, 4", "64", "1019.6", "5.04", "2.50", "4.40", "99 % under 1 ms, at most 0.9 ms in 100 wake-ups"] in rows
