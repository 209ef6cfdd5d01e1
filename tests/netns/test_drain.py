"""Letting go on a real LAN: a node that goes stays until it hears its successor, and says so where there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from tests.netns.pair import holds
from tests.netns.peers import role, until

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

VIP = "10.77.0.100"
ALONE = "nobody has taken over"
TAKEN = "is master now"


class Two:
    def __init__(self, lan: Lan, directory: Path, stack: ExitStack) -> None:
        settings = {"CARP_VHID": "42", "CARP_VIPS": VIP, "CARP_PASSWORD": "goodbye"}
        self.first, self.second = (SidecarNode(node, directory, settings) for node in lan.nodes)
        for each in (self.first, self.second):
            stack.callback(each.kill_all)

    def begin(self, sidecar: SidecarNode, becomes: str, **settings: str) -> None:
        sidecar.start(**settings)
        until(lambda: role(sidecar) == becomes, f"it is {becomes}")

    def leads(self, sidecar: SidecarNode) -> bool:
        """Whether it alone is master and has the VIP."""
        every = (self.first, self.second)
        return role(sidecar) == "master" and [holds(each.node, VIP) for each in every] == [
            each is sidecar for each in every
        ]


def drain(sidecar: SidecarNode) -> tuple[int, str]:
    command = [sys.executable, "-P", "-m", "sidecar", "drain", "--runtime-dir", str(sidecar.runtime_dir)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def news(sidecar: SidecarNode, before: str) -> str:
    return sidecar.log.removeprefix(before)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with Lan(nodes=2, prefix="carpdrain") as lan, ExitStack() as stack:
        two = Two(lan, tmp_path, stack)
        try:
            yield two
        except BaseException as error:
            error.add_note("\n".join(f"--- {each.node.name}:\n{each.log}" for each in (two.first, two.second)))
            raise


def test_who_goes_stays_until_somebody_else_has_said_that_he_is_master(two: Two) -> None:
    first, second = two.first, two.second
    two.begin(first, "master")

    # Alone: nobody takes over, by hand the node goes on.
    code, said = drain(first)
    assert (code, said) == (1, "default: nobody has taken over; this node goes on\n")
    until(lambda: two.leads(first), "it goes on")

    # By hand, with somebody there.
    two.begin(second, "backup")
    code, said = drain(first)
    assert code == 0
    assert said.startswith(f"default: handed over: {second.node.address} advertises every ")
    until(lambda: two.leads(second), "the other one leads")
    assert drain(first) == (0, "nothing to hand over: this node is master of no group\n")

    # SIGTERM: its process ends once the successor was heard, and the log names him.
    before = second.log
    assert second.terminate() == 0
    assert f"{first.node.address} {TAKEN}" in news(second, before)
    assert ALONE not in news(second, before)
    until(lambda: two.leads(first), "the successor leads")

    # A backup has nobody to wait for.
    two.begin(second, "backup")
    before = second.log
    assert second.terminate() == 0
    assert TAKEN not in news(second, before)
    assert ALONE not in news(second, before)

    # Who is alone lets go all the same, and says that nobody has taken over.
    before = first.log
    assert first.terminate() == 0
    assert ALONE in news(first, before)
    assert not holds(first.node, VIP)

    # Who keeps the VIPs for his next life says no goodbye and waits for nobody.
    two.begin(first, "master", CARP_ON_EXIT="keep")
    before = first.log
    assert first.terminate() == 0
    assert TAKEN not in news(first, before)
    assert ALONE not in news(first, before)
    assert holds(first.node, VIP)
