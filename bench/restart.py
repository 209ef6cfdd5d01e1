"""How long a restart takes that keeps the VIPs (``CARP_ON_EXIT=keep``): ``python -m bench.restart``."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import pod
from bench.machine import Machine, machine
from bench.page import measured_on, publish, table
from sidecar.control import ControlError
from sidecar.demo.lan import Lan, LanError
from sidecar.demo.node import SidecarNode
from sidecar.ipc.messages import GroupStatus
from sidecar.protocol import timing

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "restart.md"
_SETTINGS = {"CARP_VHID": "42", "CARP_VIPS": "10.77.0.100", "CARP_PASSWORD": "benchmark", "CARP_ON_EXIT": "keep"}
_READY_WITHIN = 90.0
_PAUSE = 3.0
"""Seconds between two restarts."""
_HEAD = """\
# How long a restart takes

Written by `make bench-restart`, which needs root for its network namespaces; the numbers as they were measured are in
[restart.json](restart.json). No test asserts on them.

A master with `CARP_ON_EXIT=keep` is told to stop (SIGTERM) and started again as soon as its processes have ended. One
group at the default timing, mirror and listener on as in a pod; a backup listens on another node. There is no API
server, which makes it as long as it can be: the agent waits an eighth of the lease for its last words. It is over when
the new engine is master again (`resumed`). That nobody misses the VIP meanwhile is shown by a test
(`tests/netns/test_keep.py`).
"""
_LEASE = """\
The kernel answers for the VIP until {standing:.2f} s after the last advert, which leaves at SIGTERM; the backup waits
for 3 s and its skew. So much of it is left, for what a kubelet takes to make a container. Where that takes longer, a
larger `CARP_DEAD_RATIO` makes room, at the price of a later takeover:
"""


class TooLateError(Exception):
    """A restart took so long that it was no restart any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Seconds."""

    stop: float
    """From SIGTERM until all processes have ended."""
    start: float
    """From there until the node is master again."""

    @property
    def whole(self) -> float:
        """From SIGTERM until the node is master again."""
        return self.stop + self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was measured, and the machine before and after."""

    before: Machine
    after: Machine
    restarts: tuple[Restart, ...]


def measure(runs: int, *, pause: float = _PAUSE, **settings: str) -> tuple[Restart, ...]:
    """Restart a master so often. Raises LanError, TimeoutError, TooLateError.

    ``settings`` are further ``CARP_*`` variables of both nodes.
    """
    with tempfile.TemporaryDirectory() as name, Lan(nodes=2, prefix="bench") as lan, ExitStack() as stack:
        directory = Path(name)
        first, second = (
            SidecarNode(
                node,
                directory,
                {**_SETTINGS, "CARP_ADVSKEW": str(skew), **pod.SETTINGS, **settings},
                account=pod.account(directory),
            )
            for node, skew in zip(lan.nodes, (0, 100), strict=True)
        )
        stack.enter_context(first)
        _wait(first, lambda group: group.role == "master")
        stack.enter_context(second)
        _wait(second, lambda group: group.role == "backup" and group.master is not None)
        restarts = []
        for _ in range(runs):
            time.sleep(pause)
            restarts.append(_restart(first))
            if second.group().transitions != 1:
                raise TooLateError(f"the backup took over, {restarts[-1].whole:.2f} s after SIGTERM")
        return tuple(restarts)


def _restart(node: SidecarNode) -> Restart:
    asked = time.time()
    if node.terminate():
        raise TimeoutError(f"{node.node.name} did not stop as it should; it says:\n{node.log[-2000:]}")
    ended = time.time()
    node.start()
    # The engine notes by the same clock since when it is master: nobody has to ask it all the time.
    group = _wait(node, lambda group: group.reason in {"resumed", "start"} and group.since >= ended)
    if group.reason != "resumed":
        raise TooLateError(f"the lease had ended before the new engine was ready; it says:\n{node.log[-2000:]}")
    return Restart(stop=ended - asked, start=group.since - ended)


def _wait(node: SidecarNode, condition: Callable[[GroupStatus], bool]) -> GroupStatus:
    deadline = time.monotonic() + _READY_WITHIN
    while time.monotonic() < deadline:
        try:
            if condition(group := node.group()):
                return group
        except ControlError:
            if not node.running:
                break
        time.sleep(0.1)
    raise TimeoutError(f"{node.node.name} isn't what it should be; it says:\n{node.log[-2000:]}")


def page(report: Report) -> str:
    """Return the whole page."""
    restarts = report.restarts
    standing = timing.standing(advbase=1, advskew=0, dead_ratio=3)
    rows = [
        _row("SIGTERM until all processes have ended", [each.stop for each in restarts]),
        _row("start until it is master again", [each.start for each in restarts]),
        _row("both", [each.whole for each in restarts]),
    ]
    left = [standing - each.whole for each in restarts]
    return "\n".join(
        [
            _HEAD,
            measured_on(report.before, report.after),
            table([f"seconds, {len(restarts)} restarts", "median", "most"], rows),
            _LEASE.format(standing=standing),
            table(["seconds", "median", "least"], [["left", f"{statistics.median(left):.2f}", f"{min(left):.2f}"]]),
        ]
    )


def _row(what: str, seconds: Sequence[float]) -> list[str]:
    return [what, f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"]


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.restart", description="Measure a restart that keeps the VIPs.")
    parser.add_argument("--page", type=Path, default=_PAGE, help="the page; its figures are in the .json beside it")
    parser.add_argument("--runs", type=int, default=10, help="restarts (default %(default)s)")
    arguments = parser.parse_args()
    before = machine()
    try:
        restarts = measure(arguments.runs)
    except (LanError, TimeoutError, TooLateError) as error:
        print(f"bench.restart: {error}", file=sys.stderr)
        return 1
    report = Report(before=before, after=machine(), restarts=restarts)
    text = page(report)
    print(text)
    publish(arguments.page, text, report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
