"""Who meddles with the VIPs: what others do is told from what this node and its kernel do."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Any

from sidecar.guard import OFTEN, WITHIN, Claimed, Disturbance, Guard, Weight
from sidecar.net.address_monitor import Gone, Marked, ReadAnew, Seen

VIP, VIP6, LOCAL = ip_interface("10.0.0.200/32"), ip_interface("fd00::200/128"), ip_interface("fe80::200/128")
GROUPS = {"web": (VIP, VIP6), "db": (LOCAL,)}
HOMES = {"web": 2, "db": 3}


def seen(vip: Any = VIP, **changes: Any) -> Seen:
    fields = {"index": 2, "valid": 2, "preferred": 0, "marked": True, "dad_failed": False} | changes
    return Seen(interface=vip, **fields)


def gone(vip: Any = VIP, index: int = 2) -> Gone:
    return Gone(index=index, interface=vip)


class Watched(Guard):
    """A guard whose marks are set at once and read when ``hear`` is next called, unless they are ``held_back``."""

    marks = 0
    held_back = False

    def bind(self, group: str = "web", *, index: int = 2, seconds: int | None = 2, now: float) -> None:
        def mark() -> int:
            self.marks += 1
            return self.marks

        super().bound(group, index=index, seconds=seconds, now=now, mark=mark)

    def hear(self, changes: Any, now: float) -> list[Disturbance | Claimed]:
        return super().hear(changes if self.held_back else [Marked(self.marks), *changes], now)


def holding(group: str = "web", *, index: int = 2) -> Watched:
    """A guard over a lease of 2 s that began at 0 and that the kernel has told of."""
    guard = Watched(GROUPS, HOMES)
    guard.bind(group, index=index, now=0.0)
    assert guard.hear([seen(vip, index=index) for vip in GROUPS[group]], 0.0) == []
    return guard


def details(found: list[Disturbance | Claimed]) -> list[str]:
    return [each.detail for each in found if isinstance(each, Disturbance)]


def test_a_vip_that_somebody_deletes_is_told_once_until_it_is_back() -> None:
    guard = holding()
    assert guard.hear([gone()], 1.0) == [
        Disturbance(group="web", index=2, vip=VIP, detail="somebody deleted 10.0.0.200/32", weight=Weight.REPORT)
    ]
    assert guard.hear([gone()], 1.0) == []
    guard.bind(now=1.0)
    assert guard.hear([seen(), gone()], 1.1) != []


def test_an_interface_that_somebody_sets_down_is_told_once_until_the_vips_are_bound_anew() -> None:
    guard = holding()
    down = Disturbance(group="web", index=2, vip=VIP, detail="somebody set it down", weight=Weight.REPORT)
    assert guard.disturbed("web", "somebody set it down", 1.0) == down
    assert guard.disturbed("web", "somebody set it down", 1.0) is None
    assert guard.hear([gone(VIP6)], 1.0) == []  # the kernel takes IPv6 addresses off with it
    guard.bind(now=1.0)
    assert guard.disturbed("web", "somebody set it down", 1.1) == down
    assert guard.disturbed("db", "somebody set it down", 1.1) is None  # it holds none


def test_what_this_node_released_or_never_had_is_nobodys_doing() -> None:
    guard = holding()
    guard.released("web")
    assert guard.hear([gone(), gone(VIP6)], 1.0) == []
    guard.released("web")
    assert Guard(GROUPS, HOMES).hear([gone()], 0.0) == []


def test_the_end_of_the_lease_is_nobodys_doing() -> None:
    guard = holding()
    assert guard.hear([gone(), gone(VIP6)], 2.0) == []
    assert details(holding().hear([gone(VIP6)], 1.999)) == ["somebody deleted fd00::200/128"]


def test_a_renewal_moves_the_end() -> None:
    guard = holding()
    guard.bind(now=1.0)
    assert details(guard.hear([gone()], 2.5)) == ["somebody deleted 10.0.0.200/32"]


def test_a_lease_for_ever_has_no_end() -> None:
    guard = holding()
    guard.bind(seconds=None, now=0.0)
    assert guard.hear([seen(valid=None)], 9.0) == []
    assert details(guard.hear([gone()], 1e9)) == ["somebody deleted 10.0.0.200/32"]


def test_our_own_deletion_that_is_told_after_the_next_lease_began_is_ours() -> None:
    guard = holding()
    guard.released("web")
    guard.bind(now=0.5)
    guard.held_back = True
    assert guard.hear([seen(), gone(), gone(VIP6), seen(), seen(VIP6)], 0.5) == []
    assert guard.hear([Marked(1), gone(), Marked(2), seen()], 0.5) == []
    assert details(guard.hear([gone()], 0.6)) == ["somebody deleted 10.0.0.200/32"]


def test_another_interface_or_prefix_is_another_address() -> None:
    guard = holding()
    assert guard.hear([gone(index=5), gone(ip_interface("10.0.0.200/24"))], 1.0) == []


def test_a_lease_on_another_interface_begins_anew() -> None:
    guard = holding()
    guard.bind(index=7, now=1.0)
    assert guard.hear([gone()], 1.0) == []
    assert details(guard.hear([seen(index=7), gone(index=7)], 1.0)) == ["somebody deleted 10.0.0.200/32"]


def test_changes_of_others_are_told() -> None:
    changed = ["somebody changed 10.0.0.200/32"]
    for changes in ({"valid": None}, {"valid": 3}, {"preferred": 2}, {"preferred": None}, {"marked": False}):
        assert details(holding().hear([seen(**changes)], 1.0)) == changed, changes
    for changes in ({"valid": 1}, {"valid": 2}, {"marked": None}):
        assert holding().hear([seen(**changes)], 1.0) == [], changes


def test_a_vip_with_a_prefix_may_be_a_source_address() -> None:
    vip = ip_interface("10.0.0.200/24")
    guard = Watched({"web": (vip,)}, {"web": 2})
    guard.bind(now=0.0)
    assert guard.hear([seen(vip, preferred=2)], 0.0) == []


def test_a_failed_detection_of_duplicates_spoils_the_address() -> None:
    guard = holding()
    (found,) = guard.hear([seen(VIP6, dad_failed=True)], 1.0)
    assert isinstance(found, Disturbance)
    assert found.take_off
    assert found.detail == "duplicate address detection failed for fd00::200/128: another host has it"
    assert guard.hear([gone(VIP6)], 1.0) == []  # taken off
    guard.bind(now=1.0)
    (found,) = guard.hear([Gone(index=2, interface=VIP6, dad_failed=True)], 1.0)  # the kernel took off one that dies
    assert isinstance(found, Disturbance)
    assert (found.take_off, found.detail[:33]) == (False, "duplicate address detection faile")


def test_what_is_missing_when_all_is_read_anew_is_gone() -> None:
    guard = holding()
    guard.held_back = True
    assert guard.hear([ReadAnew(frozenset({(2, VIP), (2, VIP6)}), 1)], 1.0) == []
    assert details(guard.hear([ReadAnew(frozenset({(2, VIP6), (3, VIP)}), 1)], 1.0)) == [
        "somebody deleted 10.0.0.200/32"
    ]


def test_again_and_again_is_an_alarm_once_until_there_is_peace_for_a_minute() -> None:
    guard = holding()

    def disturb(now: float) -> Weight:
        guard.bind(now=now)
        (found,) = guard.hear([seen(), gone()], now)
        assert isinstance(found, Disturbance)
        return found.weight

    said = [disturb(float(second)) for second in range(OFTEN + 3)]
    assert said == [Weight.REPORT] * OFTEN + [Weight.ALARM] + [Weight.SILENCE] * 2
    last = float(OFTEN + 2)
    assert disturb(last + WITHIN) is Weight.SILENCE
    assert disturb(last + WITHIN + WITHIN + 0.1) is Weight.REPORT


def test_now_and_then_is_no_alarm() -> None:
    guard = holding()
    for number in range(3 * OFTEN):
        now = number * WITHIN / (OFTEN - 1)
        guard.bind(now=now)
        (found,) = guard.hear([seen(), gone()], now)
        assert isinstance(found, Disturbance)
        assert found.weight is Weight.REPORT


# The node's own addresses --------------------------------------------------------------------------------------------


def test_a_vip_that_becomes_the_nodes_own_address_is_told_once_and_known_until_it_goes() -> None:
    guard = Watched(GROUPS, HOMES)
    own = ip_interface("10.0.0.200/24")
    assert guard.own("web") is None
    static = seen(own, index=5, valid=None, preferred=None, marked=None)
    assert guard.hear([static, static], 0.0) == [Claimed("web", 5, own)]
    assert guard.own("web") == (5, own)
    assert guard.own("db") is None
    guard.hear([gone(own, 5)], 0.0)
    assert guard.own("web") is None


def test_it_is_known_until_it_is_missing_from_all() -> None:
    guard = Watched(GROUPS, HOMES)
    guard.hear([seen(valid=None, preferred=None, marked=False)], 0.0)
    guard.hear([ReadAnew(frozenset({(2, VIP)}))], 0.0)
    assert guard.own("web") == (2, VIP)
    guard.hear([ReadAnew(frozenset())], 0.0)
    assert guard.own("web") is None


def test_what_an_earlier_life_left_is_not_the_nodes_own() -> None:
    guard = Watched(GROUPS, HOMES)
    assert guard.hear([seen(), seen(VIP6, marked=None)], 0.0) == []
    assert guard.own("web") is None
    guard.hear([seen(marked=False, valid=9, preferred=9)], 0.0)
    assert guard.own("web") is not None
    guard.hear([seen()], 0.0)
    assert guard.own("web") is None


def test_a_link_local_address_of_another_interface_is_another() -> None:
    guard = Watched(GROUPS, HOMES)
    static = {"valid": None, "preferred": None, "marked": None}
    assert guard.hear([seen(LOCAL, index=2, **static)], 0.0) == []
    assert guard.hear([seen(LOCAL, index=3, **static)], 0.0) == [Claimed("db", 3, LOCAL)]


def test_an_address_that_is_no_vip_concerns_nobody() -> None:
    other = ip_interface("10.0.0.7/24")
    assert Guard(GROUPS, HOMES).hear([seen(other, marked=None, valid=None, preferred=None)], 0.0) == []


def test_other_groups_are_watched_from_now_on_and_what_is_held_goes_on() -> None:
    guard = holding()
    assert guard.hear([seen(LOCAL, index=3, marked=False, preferred=None)], 0.5) == [Claimed("db", 3, LOCAL)]
    assert guard.own("db") == (3, LOCAL)
    guard.change({"web": GROUPS["web"], "mail": (ip_interface("10.0.0.202/32"),)}, {"web": 2, "mail": 2})
    assert guard.own("db") is None
    assert details(guard.hear([gone()], 1.0)) == ["somebody deleted 10.0.0.200/32"]
    mine = ip_interface("10.0.0.202/24")
    assert guard.hear([seen(mine, marked=False, preferred=None)], 1.0) == [Claimed("mail", 2, mine)]
