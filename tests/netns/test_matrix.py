"""The matrix: this sidecar and Debian's real ucarp in every transport and setting that ucarp has, on the real kernel.

Each cell is a pair on a LAN of its own that goes through one play (``plays``, ``strangers``). The pairs mostly wait for
their timers, so many of them run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.netns import plays, strangers
from tests.netns.pair import Pair, Setting, pair
from tests.netns.side_by_side import Outcomes, side_by_side


def setting(theirs: str = "", *, ours: str = "", **others: object) -> Setting:
    """``theirs`` are options of ucarp, ``ours`` settings as NAME=value without CARP_."""
    named = dict(word.split("=", 1) for word in ours.split())
    settings = {f"CARP_{name}": value for name, value in {"REPLAY": "compat", **named}.items()}
    return replace(Setting(ours=settings, theirs=theirs), **others)


ONE_BYTE = setting("-k 0", ours="ADVSKEW=20", vhid=1, password="p")
ANOTHER_GROUP = setting(
    "-k 0 --mcast=239.7.7.7",
    ours="ADVSKEW=20 MULTICAST_GROUP=239.7.7.7",
    vhid=255,
    password="nineteen bytes long",
    to=("01:00:5e:07:07:07", "239.7.7.7"),
)
BROADCAST = setting("-k 0 --nomcast", ours="ADVSKEW=20 TRANSPORT=broadcast", to=("ff:ff:ff:ff:ff:ff", "224.0.0.18"))
BROADCAST_TO_A_GROUP = setting(
    "-k 0 -M --mcast=239.7.7.7",
    ours="ADVSKEW=20 TRANSPORT=broadcast MULTICAST_GROUP=239.7.7.7",
    to=("ff:ff:ff:ff:ff:ff", "239.7.7.7"),
)
TOO_FAST = setting("-b 0 -k 254", ours="ADVBASE=0 ADVSKEW=32 DEAD_RATIO=24")
"""With a lease of 3 s, as every cell of such adverts has one: a busy machine is late by a second."""
SEALED = {"CARP_REPLAY": "strict"}
"""The default: ucarp accepts what it cannot seal itself. So these are plays in which it has nothing to say."""
TWO_GROUPS = """
groups:
  - {name: first, vhid: 42, vips: [10.77.0.100], advskew: 50, preempt: true}
  - {name: second, vhid: 255, vips: [10.77.0.101], preempt: true}
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One play with one setting."""

    name: str
    play: Callable[[Pair], None]
    setting: Setting


CELLS = (
    # The longest come first, so that the end is not a wait for a single one.
    Cell("their cable", plays.their_cable, setting("-k 0", ours="ADVSKEW=20")),
    Cell("interface down: ours", plays.our_interface_down, setting("-k 20")),
    Cell("advbase 2", plays.there_and_back, setting("-b 2 -k 0", ours="ADVBASE=2 ADVSKEW=20")),
    Cell("multicast", plays.there_and_back, ONE_BYTE),
    Cell("--mcast", plays.there_and_back, ANOTHER_GROUP),
    Cell("-M", plays.there_and_back, BROADCAST),
    Cell("-M --mcast", plays.there_and_back, BROADCAST_TO_A_GROUP),
    Cell("preempt: both, ours better", plays.we_take_over, setting("-k 20 -P", ours="PREEMPT=true")),
    Cell("preempt: both, theirs better", plays.they_take_over, setting("-k 0 -P", ours="ADVSKEW=20 PREEMPT=true")),
    Cell("preempt: none, ours better", plays.they_stay, setting("-k 20")),
    Cell("preempt: none, theirs better", plays.we_stay, setting("-k 0", ours="ADVSKEW=20")),
    Cell("preempt: ours, theirs better", plays.they_stay, setting("-k 0", ours="ADVSKEW=20 PREEMPT=true")),
    Cell("preempt: theirs, ours better", plays.we_stay, setting("-k 20 -P")),
    Cell("sealed", plays.we_stay, setting("-k 20", ours="REPLAY=strict")),
    Cell("sealed, --mcast", plays.we_stay, replace(ANOTHER_GROUP, ours={**ANOTHER_GROUP.ours, **SEALED})),
    Cell("sealed, -M", plays.we_stay, replace(BROADCAST, ours={**BROADCAST.ours, **SEALED})),
    Cell("both families", plays.silent_family, setting("-k 0", ours="ADVSKEW=20 ADDRESS_FAMILY=both")),
    Cell("advbase 0: theirs", plays.they_stay, setting("-b 0 -k 64", calm=30)),
    Cell("advbase 0: both", plays.they_stay, setting("-b 0 -k 64", ours="ADVBASE=0 ADVSKEW=128 DEAD_RATIO=6", calm=30)),
    Cell("advbase 0: ours", plays.we_stay, setting("-k 0", ours="ADVBASE=0 ADVSKEW=64 DEAD_RATIO=8", calm=30)),
    Cell("advbase 0: too fast", plays.faster_than_they_hear, TOO_FAST),
    Cell("advbase 4: theirs", plays.slower_master_is_replaced, setting("-b 4 -k 0")),
    Cell("advbase 4: ours", plays.slower_we_are_replaced, setting("-k 0", ours="ADVBASE=4")),
    Cell("dead ratio: ours bears theirs", plays.they_stay, setting("-b 4 -k 0", ours="DEAD_RATIO=5", calm=3)),
    Cell("dead ratio: theirs bears ours", plays.we_stay, setting("-k 0 --deadratio=5", ours="ADVBASE=4", calm=3)),
    Cell("tie: ours lower", plays.tie_for_us, setting("-k 0")),
    Cell("tie: theirs lower", plays.tie_for_them, setting("-k 0", seats=(1, 0))),
    Cell("tie: ours higher but first", plays.tie_for_us, setting("-k 0", sources=("10.77.2.3", "10.77.1.5"))),
    Cell("tie: theirs higher but first", plays.tie_for_them, setting("-k 0", sources=("10.77.1.5", "10.77.2.3"))),
    Cell("neutral", plays.neutral, setting("-k 20 --neutral")),
    Cell("SIGUSR2", plays.they_demote_themselves, setting("-k 0", ours="ADVSKEW=20")),
    Cell("SIGUSR2 -P", plays.they_demote_themselves_and_preempt, setting("-k 0 -P", ours="ADVSKEW=20")),
    Cell("SIGKILL", plays.they_are_killed, setting("-k 0", ours="ADVSKEW=20")),
    Cell("SIGTERM without -z", plays.they_are_terminated, setting("-k 0", ours="ADVSKEW=20", shutdown=False)),
    Cell("-S, ours better", plays.their_ignored_cable_for_us, setting("-k 20 --ignoreifstate")),
    Cell("-S, theirs better", plays.their_ignored_cable_for_them, setting("-k 0 -S", ours="ADVSKEW=20")),
    Cell("our cable", plays.our_cable_for_them, setting("-k 20")),
    Cell("our cable, preempt", plays.our_cable_for_us, setting("-k 20", ours="PREEMPT=true")),
    Cell("interface down: theirs", plays.their_interface_down, setting("-k 0", ours="ADVSKEW=20")),
    Cell("two groups", strangers.two_groups, setting("-k 0", config=TWO_GROUPS)),
    Cell("another vhid", strangers.stranger, setting("-k 20", nodes=3)),
    Cell("VRRPv2", strangers.vrrp_v2, setting("-k 20", nodes=3)),
    Cell("VRRPv2 of our length", strangers.vrrp_v2_of_our_length, setting("-k 20", nodes=3)),
    Cell("VRRPv2 of our length and vhid", strangers.vrrp_v2_of_our_length_and_vhid, setting("-k 20", nodes=3)),
    Cell("VRRPv3", strangers.vrrp_v3, setting("-k 20", nodes=3)),
    Cell("VRRPv3 of our length", strangers.vrrp_v3_of_our_length, setting("-k 20", nodes=3)),
    Cell("another password", strangers.their_password, setting("--pass=Matrix -k 20")),
    Cell("another VIP", strangers.their_vip, setting("--addr=10.77.0.101 -k 20")),
    Cell("one VIP more", strangers.our_vips, setting("-k 0", vips="10.77.0.100,10.77.0.101")),
)  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest,
    real_kernel: None,  # noqa: ARG001 - comes first
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outcomes]:
    def run(cell: Cell, place: Path) -> None:
        with pair(cell.setting, place) as made:
            cell.play(made)

    with side_by_side(request, CELLS, run, directory=tmp_path_factory.mktemp("matrix"), at_once=12) as started:
        yield started


@pytest.mark.parametrize("case", CELLS, ids=lambda cell: cell.name)
def test_the_pair_ends_as_it_must(case: Cell, outcomes: Outcomes) -> None:
    outcomes[case.name].result()


def test_the_cells_have_names_of_their_own() -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS)
