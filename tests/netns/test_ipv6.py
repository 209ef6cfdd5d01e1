"""CARP over IPv6 between our own: elections, transports, neighbour entries, and two families that fail one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.netns.peers import role
from tests.netns.side_by_side import Outcomes, side_by_side
from tests.netns.trio import GLOBAL, IPV4, LINK_LOCAL, VIP, VIP6, Setting, Trio, address_of, trio


def life(three: Trio) -> None:
    """Election, crash, return with preemption, planned stop; the client follows each time."""
    first, second, third = three.sidecars
    assert tuple(map(address_of, three.lan.nodes)) == LINK_LOCAL
    three.begin()
    assert [group.transitions for group in three.groups()] == [2, 1, 1]
    first.kill_all()
    three.expect(1)
    assert second.group().reason in ("master-down", "preempt")  # run late, it finds the third one master
    first.start(CARP_PREEMPT="true")
    three.settle(0)
    assert (first.group().reason, second.group().reason) == ("preempt", "better-master")
    assert first.terminate() == 0
    three.settle(1)
    assert second.group().reason in ("bow-out", "preempt")
    assert [sidecar.group().drops for sidecar in (second, third)] == [{}, {}]


def interface_down(three: Trio) -> None:
    """An interface that is set down loses its IPv6 addresses; up again, with its link-local one, it hears on."""
    first = three.sidecars[0]
    three.begin()
    first.node.run(["ip", "link", "set", "eth0", "down"])
    three.until(lambda: role(first) == "init", "the first one is neither")
    three.until(lambda: role(three.sidecars[1]) == "master", "the second one takes over")
    first.node.run(["ip", "link", "set", "eth0", "up"])
    first.node.run(["ip", "address", "add", f"{first.node.address6}/64", "dev", "eth0", "nodad"])  # to reach the client
    three.settle(1)
    three.sidecars[1].kill_all()
    three.settle(0)


def deaf(three: Trio, *, numbers: tuple[int, ...], version: int) -> None:
    """Some hear one family no more. At most one attempt to take over each, and then peace, also once it is back."""
    three.begin()
    before = [group.transitions for group in three.groups()]
    for number in numbers:
        three.drop(number, version)
    three.adverts(0, 6)  # longer than any timer
    three.settle(0)
    after = [group.transitions for group in three.groups()]
    assert all(now - then in (0, 2) for then, now in zip(before[1:], after[1:], strict=True)), (before, after)
    assert after[0] == before[0], "the master leads on"
    for number in numbers:
        three.hear(number)
    three.settle(0)
    assert [group.transitions for group in three.groups()] == after
    three.sidecars[0].kill_all()
    three.expect(1)


def all_deaf_to_ipv4(three: Trio) -> None:
    deaf(three, numbers=(0, 1, 2), version=4)


def all_deaf_to_ipv6(three: Trio) -> None:
    deaf(three, numbers=(0, 1, 2), version=6)


def backup_deaf_to_ipv4(three: Trio) -> None:
    deaf(three, numbers=(1,), version=4)


def backup_deaf_to_ipv6(three: Trio) -> None:
    deaf(three, numbers=(1,), version=6)


def master_deaf_to_ipv4(three: Trio) -> None:
    deaf(three, numbers=(0,), version=4)


def master_deaf_to_ipv6(three: Trio) -> None:
    deaf(three, numbers=(0,), version=6)


def failover_over_one_family(three: Trio) -> None:
    """With IPv4 dead for all, IPv6 alone carries a crash, a return and a planned stop."""
    first = three.sidecars[0]
    three.begin()
    for number in range(3):
        three.drop(number, 4)
    three.adverts(0, 6)
    three.settle(0)
    first.kill_all()
    three.settle(1)
    first.start(CARP_PREEMPT="true")
    three.settle(0)
    assert first.terminate() == 0
    three.expect(1)
    # A goodbye starts all timers of whoever does not stand up first: one more attempt for the deaf one's.
    three.adverts(1, 6)
    three.settle(1)


IPV6 = Setting(settings={"CARP_ADDRESS_FAMILY": "ipv6"}, sources={6: LINK_LOCAL})
BOTH = Setting(settings={"CARP_ADDRESS_FAMILY": "both"}, sources={4: IPV4, 6: LINK_LOCAL})


def unicast(family: str, sources: dict[int, tuple[str, str, str]]) -> Setting:
    peers = ",".join(address for addresses in sources.values() for address in addresses)
    settings = {"CARP_ADDRESS_FAMILY": family, "CARP_TRANSPORT": "unicast", "CARP_PEERS": peers}
    return Setting(settings=settings, sources=sources, unicast=True)


@dataclass(frozen=True, slots=True)
class Case:
    """One play with one setting."""

    name: str
    play: Callable[[Trio], None]
    setting: Setting


CASES = (
    Case("ipv6", life, IPV6),
    Case("both", life, BOTH),
    Case("ipv6, compat", life, replace(IPV6, settings={**IPV6.settings, "CARP_REPLAY": "compat"})),
    Case("ipv6, unicast, link-local", life, unicast("ipv6", {6: LINK_LOCAL})),
    Case("ipv6, unicast, global", life, unicast("ipv6", {6: GLOBAL})),
    Case("both, unicast", life, unicast("both", {4: IPV4, 6: GLOBAL})),
    Case("ipv4 adverts, IPv6 VIPs", life, Setting(vips=(VIP6, "fd77::101"), sources={4: IPV4})),
    Case("ipv6 adverts, IPv4 VIPs", life, replace(IPV6, vips=(VIP, "10.77.0.101"))),
    Case("interface down", interface_down, IPV6),
    Case("all deaf to ipv4", all_deaf_to_ipv4, BOTH),
    Case("all deaf to ipv6", all_deaf_to_ipv6, BOTH),
    Case("backup deaf to ipv4", backup_deaf_to_ipv4, BOTH),
    Case("backup deaf to ipv6", backup_deaf_to_ipv6, BOTH),
    Case("master deaf to ipv4", master_deaf_to_ipv4, BOTH),
    Case("master deaf to ipv6", master_deaf_to_ipv6, BOTH),
    Case("failover over ipv6 alone", failover_over_one_family, BOTH),
)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest,
    real_kernel: None,  # noqa: ARG001 - comes first
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outcomes]:
    def run(case: Case, place: Path) -> None:
        with trio(case.setting, place) as three:
            case.play(three)

    with side_by_side(request, CASES, run, directory=tmp_path_factory.mktemp("ipv6"), at_once=8) as started:
        yield started


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_three_end_as_they_must(case: Case, outcomes: Outcomes) -> None:
    outcomes[case.name].result()
