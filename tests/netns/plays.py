"""What a pair of ours and real ucarp goes through in one cell of the matrix; each function is one play."""

from __future__ import annotations

import signal

from tests.netns.pair import Pair
from tests.netns.peers import role, status

AT_ONCE = "Putting MASTER DOWN (going to time out)"
"""ucarp's words where it takes over without waiting for its timer, as after a goodbye."""


# Who is master ---------------------------------------------------------------------------------------------------


def there_and_back(pair: Pair) -> None:
    """ucarp leads, ends, returns as our backup, and takes over at our goodbye: either HMAC is accepted by the other."""
    pair.begin("theirs")
    pair.ours.start()
    pair.settle("theirs")
    assert pair.ours.group().drops == {}
    assert pair.theirs.end(signal.SIGTERM) == 0
    pair.expect("ours")
    assert pair.ours.group().reason == "master-down"
    pair.theirs.start()
    pair.settle("ours")
    assert AT_ONCE not in pair.theirs.log
    assert pair.ours.terminate() == 0
    pair.expect("theirs")
    assert AT_ONCE in pair.theirs.log
    assert pair.theirs.complaints == []


def they_stay(pair: Pair) -> None:
    """ucarp leads, we join, and nothing changes."""
    pair.begin("theirs")
    pair.ours.start()
    pair.until(lambda: role(pair.ours) == "backup", "we listen")
    pair.settle("theirs")
    assert pair.ours.group().transitions == 1
    pair.theirs.kill()
    pair.expect("ours")


def we_stay(pair: Pair) -> None:
    """We lead, ucarp joins, and nothing changes; killed as a whole, we are replaced."""
    pair.begin("ours")
    pair.theirs.start()
    pair.settle("ours")
    assert pair.ours.group().transitions == 2
    assert pair.theirs.complaints == []
    pair.ours.kill_all()
    pair.expect("theirs")


def we_take_over(pair: Pair) -> None:
    """ucarp leads, and we do not wait for our timer; after the death of either, the other one leads."""
    pair.begin("theirs")
    pair.ours.start()
    pair.settle("ours")
    pair.ours.kill_all()
    pair.expect("theirs")
    pair.ours.start()
    pair.settle("ours")
    assert pair.theirs.complaints == []


def they_take_over(pair: Pair) -> None:
    """We lead, and ucarp does not wait for its timer; after its end and return, as before."""
    pair.begin("ours")
    pair.theirs.start()
    pair.settle("theirs")
    assert pair.ours.group().reason == "better-master"
    assert pair.theirs.end(signal.SIGTERM) == 0
    pair.expect("ours")
    pair.theirs.start()
    pair.settle("theirs")
    assert pair.theirs.complaints == []


def slower_master_is_replaced(pair: Pair) -> None:
    """ucarp advertises more rarely than our timer can bear."""
    pair.begin("theirs")
    pair.ours.start()
    pair.until(lambda: role(pair.ours) == "master", "we take over")
    assert pair.ours.group().reason in ("slower-master", "master-down")  # whichever comes first
    pair.settle("ours")
    assert "Preferred master advertised" in pair.theirs.log


def slower_we_are_replaced(pair: Pair) -> None:
    """We advertise more rarely than ucarp's timer can bear."""
    pair.begin("ours")
    pair.theirs.start()
    pair.settle("theirs")
    assert pair.ours.group().reason == "better-master"


def tie(pair: Pair) -> None:
    """Both become master while they do not hear each other."""
    pair.lan.cut(pair.node("theirs"))
    pair.ours.start()
    pair.theirs.start()
    pair.until(lambda: pair.leads("ours") and pair.leads("theirs"), "both are master")
    pair.lan.heal(pair.node("theirs"))
    pair.adverts(4)  # ucarp reads a second late what its capture holds, and its log tells of it then


def tie_for_us(pair: Pair) -> None:
    """With equal skews the address decides: we stay."""
    tie(pair)
    pair.settle("ours")
    assert pair.ours.group().transitions == 2
    assert "Preferred master advertised" in pair.theirs.log
    assert pair.theirs.complaints == []


def tie_for_them(pair: Pair) -> None:
    """With equal skews the address decides: ucarp stays."""
    tie(pair)
    pair.settle("theirs")
    assert pair.ours.group().reason == "better-master"
    assert "Preferred master advertised" not in pair.theirs.log
    assert pair.theirs.complaints == []


def silent_family(pair: Pair) -> None:
    """We speak both families, ucarp IPv4 only: its silence in the other one is good for one attempt, and then peace."""
    pair.begin("theirs")
    pair.ours.start()
    pair.until(lambda: role(pair.ours) == "backup", "we listen")
    pair.adverts(pair.setting.calm)
    pair.settle("theirs")
    assert pair.ours.group().transitions == 3
    assert pair.theirs.end(signal.SIGTERM) == 0
    pair.expect("ours")
    pair.theirs.start()
    pair.settle("ours")


# Timing ----------------------------------------------------------------------------------------------------------


def faster_than_they_hear(pair: Pair) -> None:
    """At advbase 0 ucarp's own timer is shorter than its capture's delay: it stands up and yields; we never do."""
    pair.begin("ours")
    pair.theirs.start()
    pair.adverts(60)
    assert (role(pair.ours), pair.ours.group().transitions) == ("master", 2)
    assert pair.theirs.complaints == []
    assert pair.theirs.end(signal.SIGTERM) == 0
    pair.expect("ours")
    assert pair.ours.group().transitions == 2


# Signals and ends ------------------------------------------------------------------------------------------------


def they_demote_themselves(pair: Pair) -> None:
    """SIGUSR2 silences ucarp for 3 s and a timer's length; we take over and keep it."""
    pair.begin("theirs")
    pair.ours.start()
    pair.settle("theirs")
    pair.theirs.send(signal.SIGUSR2)
    pair.settle("ours")
    assert pair.ours.group().reason == "master-down"


def they_demote_themselves_and_preempt(pair: Pair) -> None:
    """After SIGUSR2, ucarp with -P comes back to take what it gave."""
    pair.begin("theirs")
    pair.ours.start()
    pair.settle("theirs")
    pair.theirs.send(signal.SIGUSR2)
    pair.until(lambda: (s := status(pair.ours)) and s.reason == "better-master", "we take over, and yield")
    pair.settle("theirs")
    assert "Putting MASTER down - preemption" in pair.theirs.log


def they_leave_the_vip(pair: Pair, number: signal.Signals) -> None:
    """ucarp dies and its VIP stays on its node: our announcements take the client away from there."""
    pair.begin("theirs")
    pair.ours.start()
    pair.until(lambda: pair.answers("theirs"), "the client is answered by ucarp's node")
    pair.settle("theirs")
    assert pair.theirs.end(number) == -number
    pair.until(lambda: role(pair.ours) == "master", "we take over")
    pair.until(lambda: pair.answers("ours"), "the client has moved")
    assert pair.holders() == ["ours", "theirs"]
    pair.theirs.repair()
    pair.settle("ours")


def they_are_killed(pair: Pair) -> None:
    they_leave_the_vip(pair, signal.SIGKILL)


def they_are_terminated(pair: Pair) -> None:
    they_leave_the_vip(pair, signal.SIGTERM)


def neutral(pair: Pair) -> None:
    """With -n, ucarp runs no downscript at its start; later it takes over as ever."""
    pair.begin("ours")
    pair.theirs.start()
    pair.settle("ours")
    assert "Spawning" not in pair.theirs.log
    pair.ours.kill_all()
    pair.expect("theirs")
    pair.ours.start()
    pair.settle("theirs")


# Links -----------------------------------------------------------------------------------------------------------


def their_cable(pair: Pair) -> None:
    """ucarp without carrier gives up and sleeps; it comes back as our backup."""
    pair.begin("theirs")
    pair.ours.start()
    pair.settle("theirs")
    pair.lan.link_down(pair.node("theirs"))
    pair.expect("ours")
    pair.lan.link_up(pair.node("theirs"))
    pair.settle("ours")


def their_ignored_cable(pair: Pair, *, winner: str) -> None:
    """With -S ucarp goes on as master of nobody; once the cable is back, the lower skew stays."""
    pair.begin("theirs")
    pair.ours.start()
    pair.settle("theirs")
    pair.lan.link_down(pair.node("theirs"))
    pair.until(lambda: role(pair.ours) == "master", "we take over")
    pair.until(lambda: pair.answers("ours"), "the client has moved")
    assert pair.leads("theirs")
    pair.lan.link_up(pair.node("theirs"))
    pair.settle("ours" if winner == "ours" else "theirs")


def their_ignored_cable_for_us(pair: Pair) -> None:
    their_ignored_cable(pair, winner="ours")


def their_ignored_cable_for_them(pair: Pair) -> None:
    their_ignored_cable(pair, winner="theirs")


def our_cable(pair: Pair, *, winner: str) -> None:
    """Without carrier we hold nothing; with it, we listen, and preempt only if told to."""
    pair.begin("ours")
    pair.theirs.start()
    pair.settle("ours")
    pair.lan.link_down(pair.node("ours"))
    pair.until(lambda: role(pair.ours) == "init", "we are neither")
    pair.until(lambda: pair.leads("theirs"), "ucarp takes over")
    pair.until(lambda: pair.holders() == ["theirs"], "ucarp alone has the VIP")
    pair.lan.link_up(pair.node("ours"))
    pair.settle("ours" if winner == "ours" else "theirs")
    assert pair.ours.group().reason == ("preempt" if winner == "ours" else "link-up")


def our_cable_for_us(pair: Pair) -> None:
    our_cable(pair, winner="ours")


def our_cable_for_them(pair: Pair) -> None:
    our_cable(pair, winner="theirs")


def set_up(pair: Pair, *, side: str, up: bool) -> None:
    node = pair.node("ours" if side == "ours" else "theirs")
    node.run(["ip", "link", "set", "eth0", "up" if up else "down"])


def our_interface_down(pair: Pair) -> None:
    """Set down and up again by hand: we still hear the multicast, and are heard."""
    pair.begin("ours")
    pair.theirs.start()
    pair.settle("ours")
    set_up(pair, side="ours", up=False)
    pair.until(lambda: role(pair.ours) == "init", "we are neither")
    pair.until(lambda: pair.leads("theirs"), "ucarp takes over")
    set_up(pair, side="ours", up=True)
    pair.settle("theirs")
    assert pair.theirs.end(signal.SIGTERM) == 0
    pair.expect("ours")
    pair.theirs.start()
    pair.settle("ours")


def their_interface_down(pair: Pair) -> None:
    """ucarp ends when its interface is set down, and with -z takes the VIP off."""
    pair.begin("theirs")
    pair.ours.start()
    pair.settle("theirs")
    set_up(pair, side="theirs", up=False)
    assert pair.theirs.wait() == 0
    pair.expect("ours")
    set_up(pair, side="theirs", up=True)
    pair.theirs.start()
    pair.settle("ours")
