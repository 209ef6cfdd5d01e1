"""The page tells what was measured and what was only computed, and computes it right."""

from __future__ import annotations

import pytest

from bench.machine import machine
from bench.mirror.figures import LISTS, RENEWALS, cost, load, share
from bench.mirror.measure import Result, Size, Used
from bench.mirror.page import Report, page


def used(seconds: float, cpu: float, **requests: int) -> Used:
    """Of the CPU seconds, a fifth are etcd's."""
    named = {name.replace("_", " "): n for name, n in requests.items()}
    return Used(seconds=seconds, cpu={"kube-apiserver": cpu * 0.8, "etcd": cpu * 0.2}, requests=named)


RESULT = Result(
    size=Size(agents=200, processes=4, seconds=100, failovers=4, renewals=100),
    kubernetes="v1.36.2",
    empty=used(100, 2.0, PUT_leases=10),
    labelled=12.34,
    start=used(20, 4.0, LIST_pods=201, PATCH_pods=200),
    watches={"pods": 202},
    steady=used(100, 3.0, PUT_leases=10),
    failovers=[0.2, 0.1, 0.3, 0.2],
    failover=used(20, 1.0, PATCH_pods=12, LIST_pods=4, PATCH_events=16, PUT_leases=2),
    memory={"backup": 55.55, "master": 66.66},
    update=used(10, 0.7, PUT_leases=101),
    get=used(10, 0.4, GET_leases=100),
)


def test_what_one_costs_is_without_what_the_time_costs_anyway() -> None:
    assert share(RESULT.steady) == pytest.approx(3.0)
    assert cost(RESULT.update, 100, beside=RESULT.empty) == pytest.approx(5.0)
    assert cost(RESULT.get, 100, beside=RESULT.empty) == pytest.approx(2.0)


def test_kube_vips_renewals_are_computed_from_its_settings() -> None:
    now, before = RENEWALS
    assert (now.writes, now.reads, before.writes, before.reads) == (1800, 1125, 3600, 2250)
    assert LISTS == 8
    # An update of 5 ms each second; of two more candidates a read of 2 ms each 1.6 s.
    assert load(before, RESULT, candidates=0) == pytest.approx(0.5)
    assert load(before, RESULT, candidates=2) == pytest.approx(0.5 + 2 * 0.2 / 1.6)


def test_the_page_says_what_is_measured_and_what_is_computed() -> None:
    text = page(Report(before=machine(), after=machine(), result=RESULT))
    flat = " ".join(text.split())
    for part in (
        "201 watches open",
        "after 200 ms in the median of 4, 100 ms at least, 300 ms at most",
        "12.3 s from the start of 200 agents",
        "55.5 MB as a backup, 66.7 MB as a master",
        "5.0 ms of the API server's and etcd's CPU time for an update of a Lease, 2.0 ms for a read",
        "A failover of ours writes 7 times, Events included: 257 of them in an hour",
        "**Computed** from these",
        "kube-vip itself was not run",
    ):
        assert part in flat, part
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert ["200 agents", "2.40", "0.60", "100 s", "0", "none"] in rows
    assert ["PATCH pods", "3"] in rows
    assert not any("PUT leases" in row for row in rows), "what the API server does for itself is nobody's cost"
    assert ["carp-sidecar", "0", "16", "-", "1.00 % (measured)"] in rows
    assert max(map(len, text.splitlines())) <= 121
