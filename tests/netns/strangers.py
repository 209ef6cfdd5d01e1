"""Plays of the matrix in which others on the wire disagree with us, or speak of something else."""

from __future__ import annotations

import signal

from tests.netns.pair import Pair, holds
from tests.netns.peers import Keepalived, Ucarp, role, status

# Members that disagree -------------------------------------------------------------------------------------------


def disagree(pair: Pair) -> None:
    """Each refuses the other, says so, and is master for itself."""
    pair.until(lambda: pair.leads("ours") and pair.leads("theirs"), "each is master for itself")
    pair.until(lambda: pair.drops("bad-hmac") > 4, "we count what we refuse")
    pair.until(lambda: pair.theirs.log.count("Bad digest") > 4, "ucarp refuses us")
    found = pair.ours.group()
    assert (found.transitions, found.adverts_received) == (2, 0)
    assert pair.ours.log.count("the password or the list of VIPs differs") == 1


def they_are_corrected(pair: Pair, *options: str) -> None:
    """We lead, and ucarp joins with another secret or VIP; started again with the right one, it is our backup."""
    pair.begin("ours")
    pair.theirs.start()
    disagree(pair)
    assert pair.theirs.end(signal.SIGTERM) == 0
    pair.theirs.start(*options)
    pair.settle("ours")


def their_password(pair: Pair) -> None:
    they_are_corrected(pair, f"--pass={pair.setting.password}")


def their_vip(pair: Pair) -> None:
    they_are_corrected(pair, f"--addr={pair.theirs.vip}")


def our_vips(pair: Pair) -> None:
    """ucarp leads, and we join with one VIP more: neither believes the other, but we bind nothing until it ends."""
    pair.begin("theirs")
    pair.ours.start()
    pair.until(lambda: (found := status(pair.ours)) and found.held_back, "we are held back")
    assert pair.drops("bad-hmac") > 0
    pair.until(lambda: pair.answers("theirs"), "ucarp answers on")
    assert pair.holders() == ["theirs"]
    assert pair.theirs.log.count("Switching to state") == 2
    assert pair.theirs.end(signal.SIGTERM) == 0
    pair.expect("ours")


# Strangers on the same wire --------------------------------------------------------------------------------------


def two_groups(pair: Pair) -> None:
    """Two vhids between the same two nodes, each led by another: neither disturbs the other; then we lead both."""
    second = Ucarp(
        pair.node("theirs"), pair.directory, vip="10.77.0.101", vhid=255, password="matrix", options="-k 100"
    )
    with second:
        pair.theirs.start()
        pair.until(lambda: second.is_master and pair.leads("theirs"), "ucarp leads both")
        pair.ours.start()
        pair.until(lambda: role(pair.ours) == "backup", "we follow in one")
        pair.until(lambda: pair.ours.status().groups[1].role == "master", "we preempt in the other")
        pair.until(lambda: not second.is_master, "ucarp yields there")
        pair.settle("theirs")
        assert [group.drops for group in pair.ours.status().groups] == [{}, {}]
        assert pair.drops("unknown-vhid") == 0
        assert holds(pair.node("ours"), second.vip)
        assert not holds(pair.node("theirs"), second.vip)
        assert pair.theirs.complaints == second.complaints == []
        pair.theirs.kill()
        pair.expect("ours")


def stranger(pair: Pair) -> None:
    """A ucarp of another vhid on the same wire is counted and changes nothing."""
    other = Ucarp(pair.lan.nodes[2], pair.directory, vip="10.77.0.101", vhid=43, password="other", options="-k 0")
    with other:
        pair.until(lambda: other.is_master, "the stranger is master of its own")
        pair.begin("ours")
        pair.theirs.start()
        pair.expect("ours")
        counted = pair.drops("unknown-vhid")
        pair.until(lambda: pair.drops("unknown-vhid") > counted + 4, "it is counted on and on")
        assert (pair.ours.group().transitions, pair.ours.group().drops) == (2, {})
        assert other.is_master
        assert pair.theirs.complaints == other.complaints == []


def vrrp(pair: Pair, *, version: int, vips: int, reason: str, vrid: int = 43, complaint: str = "") -> None:
    """keepalived speaks VRRP, on the same multicast group and protocol number: counted as ``reason``, and no more.

    ucarp says ``complaint`` of it. A vrid of our vhid silences keepalived 2.2.7: whatever comes under it, even if it is
    too short, puts its next advert off. So then there are but few, and perhaps none once there is a ucarp to hear them.
    """
    silenced = vrid == pair.setting.vhid
    addresses = [f"10.77.0.{110 + number}" for number in range(vips)]
    with Keepalived(pair.lan.nodes[2], pair.directory, version=version, vrid=vrid, vips=addresses) as keepalived:
        pair.until(lambda: keepalived.is_master, "keepalived is master of its own")
        pair.begin("ours")
        pair.theirs.start()
        pair.expect("ours")
        pair.until(lambda: pair.drops(reason) > (0 if silenced else 8), "VRRP is counted")
        pair.adverts(pair.setting.calm)
        found = pair.ours.status()
        assert {name for each in (*found.groups, *found.interfaces) for name in each.drops} == {reason}
        assert (pair.ours.group().transitions, pair.ours.group().adverts_received) == (2, 0)
        assert keepalived.transitions == 1
        assert all(holds(pair.lan.nodes[2], address) for address in addresses)
        assert pair.theirs.log.count("Switching to state") == 1
        if complaint and not silenced:
            pair.until(lambda: pair.theirs.complaints, "ucarp hears it too")
        assert all(complaint and complaint in line for line in pair.theirs.complaints)


def vrrp_v2(pair: Pair) -> None:
    vrrp(pair, version=2, vips=1, reason="truncated")


def vrrp_v2_of_our_length(pair: Pair) -> None:
    vrrp(pair, version=2, vips=5, reason="unknown-vhid")


def vrrp_v2_of_our_length_and_vhid(pair: Pair) -> None:
    vrrp(pair, version=2, vips=5, vrid=42, reason="bad-hmac", complaint="Bad digest")


def vrrp_v3(pair: Pair) -> None:
    vrrp(pair, version=3, vips=1, reason="truncated")


def vrrp_v3_of_our_length(pair: Pair) -> None:
    vrrp(pair, version=3, vips=7, reason="bad-version", complaint="Bad version: [3]")
