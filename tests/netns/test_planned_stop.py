"""A planned change between our own nodes: at no time do two answer, for both IP versions and both kinds of MAC."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import Prober, all_prober
from tests.netns.peers import status, until
from tests.netns.witness import doubles, order

TRANSPORTS = {
    "multicast": {},
    "unicast": {"CARP_TRANSPORT": "unicast", "CARP_PEERS": "10.77.0.1,10.77.0.2"},
}
HEIR_WAITS = 2.9
"""Seconds at least for which an heir waits that gets no word."""
VIPS = ("10.77.0.100", "fd77::100", "10.77.0.101", "fd77::101")
CONFIG = """\
groups:
- {name: own, vhid: 42, vips: ["10.77.0.100", "fd77::100"]}
- {name: virtual, vhid: 43, vips: ["10.77.0.101", "fd77::101"], mac: virtual}
"""


class Two:
    """Two nodes with a group at the interface's MAC and one at a virtual MAC, and a prober for each VIP."""

    def __init__(self, lan: Lan, directory: Path, transport: str) -> None:
        config = directory / "groups.yaml"
        config.write_text(CONFIG)
        settings = {"CARP_CONFIG_FILE": str(config), "CARP_INTERFACE": "", "CARP_PASSWORD": "planned"}
        settings |= TRANSPORTS[transport]
        self.first, self.second = (
            SidecarNode(node, directory, {**settings, "CARP_ADVSKEW": skew})
            for node, skew in zip(lan.nodes, ("0", "20"), strict=False)
        )
        self.probers: dict[str, Prober] = {}

    def answered_by(self, sidecar: SidecarNode) -> bool:
        latest = [prober.latest() for prober in self.probers.values()]
        return {answer.node if answer else "" for answer in latest} == {sidecar.node.name}

    def roles(self, sidecar: SidecarNode) -> set[str]:
        return {group.role for group in sidecar.status().groups} if status(sidecar) else set()

    def settle(self, master: SidecarNode, backup: SidecarNode | None = None) -> None:
        until(lambda: self.roles(master) == {"master"}, f"{master.node.name} is master of both groups")
        if backup is not None:
            until(lambda: self.roles(backup) == {"backup"}, f"{backup.node.name} is backup in both groups")
            heard = [group.adverts_received for group in backup.status().groups]
            until(
                lambda: all(g.adverts_received > n for g, n in zip(backup.status().groups, heard, strict=True)),
                f"{backup.node.name} hears it",
            )
        until(lambda: self.answered_by(master), f"{master.node.name} answers for all")


@contextlib.contextmanager
def two_nodes(lan: Lan, directory: Path, transport: str) -> Iterator[Two]:
    made = Two(lan, directory, transport)
    try:
        with contextlib.ExitStack() as stack:
            for vip in VIPS:
                made.probers[vip] = stack.enter_context(all_prober(lan, vip))
            yield made
    except BaseException as error:
        error.add_note(f"--- first:\n{made.first.log}\n--- second:\n{made.second.log}")
        raise
    finally:
        made.first.kill_all()
        made.second.kill_all()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_two_answer_whoever_hands_over_or_stops(lan: Lan, tmp_path: Path, transport: str) -> None:
    """Hand over to and fro, at once, and stop; however long a busy machine takes for each step."""
    with two_nodes(lan, tmp_path, transport) as two:
        two.first.start()
        two.settle(two.first)
        two.second.start()
        two.settle(two.first, two.second)
        begun = time.monotonic()
        for _ in range(2):
            os.kill(two.first.pid, signal.SIGUSR2)
            two.settle(two.second, two.first)
            os.kill(two.second.pid, signal.SIGUSR2)
            two.settle(two.first, two.second)
        assert [group.reason for group in two.first.status().groups] == ["handed-over"] * 2
        assert two.first.terminate() == 0
        two.settle(two.second)
        assert [group.reason for group in two.second.status().groups] == ["bow-out"] * 2
        answers = {vip: prober.answers() for vip, prober in two.probers.items()}
    wrong = [
        f"{vip}: {order(each)}, {len(doubles(each))} probes answered twice"
        for vip, each in answers.items()
        if doubles(each) or order(each) != ["node-1", "node-2"] * 3
    ]
    assert not wrong, "\n".join(wrong)
    missed = max((outage.seconds for each in answers.values() for outage in each.outages(since=begun)), default=0.0)
    assert missed < HEIR_WAITS, "the word came"
