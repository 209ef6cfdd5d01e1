"""The restart that keeps the VIPs: what is made of the figures, and that a short run measures what it should."""

from __future__ import annotations

import pytest

from bench.machine import machine
from bench.restart import Report, Restart, measure, page


def test_the_page_has_the_median_and_the_worst_of_each_part_and_what_is_left_of_the_lease() -> None:
    restarts = tuple(Restart(stop=stop, start=start) for stop, start in ((0.1, 0.8), (0.3, 1.0), (0.2, 0.9)))
    now = machine()
    text = page(Report(before=now, after=now, restarts=restarts))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert rows == [
        ["seconds, 3 restarts", "median", "most"],
        ["SIGTERM until all processes have ended", "0.20", "0.30"],
        ["start until it is master again", "0.90", "1.00"],
        ["both", "1.10", "1.30"],
        ["seconds", "median", "least"],
        ["left", "1.85", "1.65"],
    ]


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_a_short_run() -> None:
    (restart,) = measure(1, pause=0.0, CARP_DEAD_RATIO="10")  # a lease that a busy machine meets too
    assert 0 < restart.stop < restart.whole
    assert 0 < restart.start < restart.whole
