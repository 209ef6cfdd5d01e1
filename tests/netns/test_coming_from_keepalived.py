"""From keepalived to this sidecar, by the steps of docs/coming-from-keepalived.md: nobody answers beside another."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import arp_prober
from tests.netns.pair import holds
from tests.netns.peers import Keepalived, role, status, until

VIP = "10.77.0.100"


def held_back(sidecar: SidecarNode) -> bool:
    found = status(sidecar)
    return found is not None and bool(found.held_back)


def follows(sidecar: SidecarNode, address: str) -> bool:
    found = status(sidecar)
    return found is not None and (found.role, found.master) == ("backup", address)


def test_node_by_node_the_master_last(lan: Lan, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("after VRRP\n")
    settings = {"CARP_VHID": "42", "CARP_VIPS": VIP, "CARP_PASSWORD_FILE": str(tmp_path / "password")}
    first, second = (SidecarNode(node, tmp_path, settings) for node in lan.nodes[:2])
    better, worse = (
        Keepalived(node, tmp_path, version=2, vrid=51, vips=[VIP], priority=priority)
        for node, priority in zip(lan.nodes[:2], (150, 100), strict=True)
    )
    with ExitStack() as the_last_keepalived:
        the_last_keepalived.enter_context(better)
        with worse:
            until(lambda: better.is_master and holds(better.node, VIP), "keepalived is master")
        with arp_prober(lan, VIP) as probe, second:
            until(lambda: held_back(second), "ours waits, since the VIP is answered")
            assert not holds(second.node, VIP)
            the_last_keepalived.close()
            until(lambda: role(second) == "master", "ours takes over when keepalived has gone")
            with first:
                until(lambda: follows(first, second.node.address), "the last node is ours, too")
                assert holds(second.node, VIP)
    answers = probe.answers()
    assert {answer.node for answer in answers.received} == {better.node.name, second.node.name}
    assert answers.overlap() == 0.0
