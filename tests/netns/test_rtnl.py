"""Somebody sets up networks on the node and holds the kernel's rtnl lock for long: a master at fast timing goes on."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from sidecar.demo.lan import Lan
from sidecar.demo.node import SidecarNode
from sidecar.demo.probe import arp_prober
from tests.netns.peers import role, until
from tests.netns.rtnl import held_rtnl

VIPS = "10.77.0.100,fd77::100"
SETTINGS = {"CARP_VHID": "42", "CARP_VIPS": VIPS, "CARP_PASSWORD": "secret", "CARP_ADVBASE": "0"}


def test_a_master_at_fast_timing_outlasts_whoever_holds_the_lock_of_all_networks(lan: Lan, tmp_path: Path) -> None:
    """Longer than the lease of milliseconds, not longer than the addresses that are extended by and by."""
    # A link that is down, as most nodes have one.
    lan.nodes[0].run(["ip", "link", "add", "spare", "type", "veth", "peer", "name", "other"])
    with contextlib.ExitStack() as stack:
        first, peer = (
            stack.enter_context(SidecarNode(node, tmp_path, {**SETTINGS, "CARP_ADVSKEW": skew}))
            for node, skew in zip(lan.nodes[:2], ("30", "60"), strict=True)
        )
        until(lambda: (role(first), role(peer)) == ("master", "backup"), "the first one is master")
        with arp_prober(lan, VIPS.partition(",")[0]) as prober:
            until(lambda: len(prober.answers().received) > 50, "the VIP answers")
            before = first.group().transitions, peer.group().transitions
            for number in range(5):
                with held_rtnl():
                    waits = peer.node.popen(f"ip address add 127.0.0.{number + 2}/8 dev lo".split())
                    time.sleep(0.45)
                    assert waits.poll() is None, "the lock is not held"
                assert waits.wait(30) == 0
                time.sleep(0.5)
            assert (first.group().transitions, peer.group().transitions) == before
            heard = peer.group().adverts_received
            until(lambda: peer.group().adverts_received > heard + 3, "and the peer hears it")
        answers = prober.answers()
        assert answers.answerers(0.0, float("inf")) == {lan.nodes[0].name}
        assert answers.outages() == ()
        assert f"{VIPS.partition(',')[2]}/" in first.node.run(["ip", "-6", "address", "show", "dev", "eth0"]).stdout
