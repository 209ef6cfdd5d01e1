"""The parent's leases, with a kernel in memory: what is in force, exact to the moment, put back, and given back."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from ipaddress import ip_interface

import pytest

from sidecar.ipc.plan import GroupPlan
from sidecar.keeper import Keeper
from sidecar.leases import Leases
from sidecar.net.addresses import FOREVER
from sidecar.net.cutoff import CutoffError
from sidecar.protocol import timing
from sidecar.protocol.types import IPAddress
from tests.fakes.addresses import FakeAddresses
from tests.fakes.cutoff import FakeCutoff
from tests.fakes.executor import FakeExecutor
from tests.fakes.plans import group_plan

VIP, OTHER = ip_interface("10.0.0.200/32"), ip_interface("10.0.0.201/32")
STANDING = timing.standing(advbase=1, advskew=0, dead_ratio=3)


class Scene:
    """Leases that are open and placed on interface 2; ``now`` is what their clock shows."""

    def __init__(self, *groups: GroupPlan, cutoff: FakeCutoff | None = None) -> None:
        self.now = 100.0
        self.kernel = FakeAddresses()
        self.cutoff = cutoff or FakeCutoff()
        self.groups = groups or (group_plan(vips=(str(VIP),)),)
        self.thread = FakeExecutor()
        keeper = Keeper(self.thread)
        self.leases = Leases(self.groups, cutoff=self.cutoff, keeper=keeper, clock=lambda: self.now)
        self.leases.open(self.kernel)
        for group in self.groups:
            self.leases.place(group.name, index=2)

    def begun(self) -> Scene:
        self.leases.begin()
        return self

    def renew(self, *, late: float = 0.0, group: str = "web") -> str | None:
        """Have it renewed with an advert that left ``late`` seconds ago."""
        return self.leases.renew(group, until=self.now - late + STANDING)

    @property
    def left(self) -> int | None:
        return self.leases.status("web").remaining_ms


def test_a_lease_counts_from_its_advert_however_late_it_is_carried_out() -> None:
    scene = Scene().begun()
    assert (scene.cutoff.managed, scene.cutoff.live) == ([VIP.ip], {})
    assert scene.renew() is None
    assert scene.kernel.bound == {(2, VIP): 3}
    tick = scene.leases._tick
    assert STANDING * 1000 - tick < scene.cutoff.live[VIP.ip] <= STANDING * 1000
    assert scene.renew(late=2.5) is None
    assert scene.cutoff.live[VIP.ip] <= (STANDING - 2.5) * 1000
    assert scene.kernel.bound == {(2, VIP): 3}, "which is no more than what it hangs on"


def test_a_renewal_whose_moment_has_passed_binds_nothing_and_ends_what_stands() -> None:
    scene = Scene().begun()
    assert scene.renew() is None
    scene.now += 10
    assert scene.renew(late=STANDING) == "the request came 2.952 s after its advert, when the lease was over"
    assert (scene.kernel.bound, scene.cutoff.live, scene.leases.holds("web")) == ({}, {}, False)
    assert scene.renew(late=3.5) is not None
    assert scene.kernel.bound == {}


def test_less_than_a_tick_is_no_lease_either(caplog: pytest.LogCaptureFixture) -> None:
    class TooShort(FakeCutoff):
        def renew(self, vips: object, milliseconds: int) -> None:  # noqa: ARG002 - as the real one
            assert milliseconds == 0
            self.refuses = "shorter than the kernel's tick"
            self._may()

    scene = Scene(cutoff=TooShort()).begun()
    assert scene.renew(late=STANDING - 0.0005) == "shorter than the kernel's tick"
    assert scene.kernel.bound == {}
    assert "cannot lease the VIPs of group web: shorter than the kernel's tick" in caplog.text


def test_without_nftables_the_address_alone_is_the_lease() -> None:
    scene = Scene(cutoff=FakeCutoff(unavailable="the kernel has no nf_tables")).begun()
    assert scene.renew() is None
    assert (scene.kernel.bound, scene.cutoff.managed, scene.left) == ({(2, VIP): 2}, None, 2000)
    assert scene.leases.status("web").why == "the kernel has no nf_tables"
    assert scene.renew(late=1.0) is None
    assert scene.kernel.bound == {(2, VIP): 1}


def test_off_binds_for_ever_and_still_gives_back() -> None:
    scene = Scene(group_plan(vips=(str(VIP),), lease="off")).begun()
    assert scene.renew() is None
    assert (scene.kernel.bound, scene.left) == ({(2, VIP): FOREVER}, None)
    assert scene.leases.release_all() == ["web"]
    assert scene.kernel.bound == {}


def test_a_table_that_somebody_flushed_is_put_back_with_all_that_is_live(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(group_plan(vips=(str(VIP),)), group_plan(name="db", vhid=7, vips=(str(OTHER),))).begun()
    scene.renew(group="db")
    scene.now += 1
    scene.cutoff.managed = None
    assert scene.renew() is None
    assert scene.cutoff.managed == [VIP.ip, OTHER.ip]
    assert scene.cutoff.live[OTHER.ip] == pytest.approx((STANDING - 1) * 1000, abs=scene.leases._tick)
    assert scene.cutoff.live[VIP.ip] > scene.cutoff.live[OTHER.ip]
    assert "nftables table carp-sidecar-test was gone" in caplog.text
    scene.cutoff.managed = None
    scene.leases.release("db")
    assert OTHER.ip not in scene.cutoff.live
    assert VIP.ip in scene.cutoff.live


def test_a_table_that_cannot_be_made_is_no_lease(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.cutoff.refuses = "no memory"
    scene.leases.begin()
    assert "no memory: the VIPs cannot be leased" in caplog.text
    assert scene.renew() == "no memory"
    assert "cannot silence the VIPs of group web: no memory" in caplog.text
    assert (scene.kernel.bound, scene.leases.holds("web")) == ({}, False)
    scene.leases.close()
    assert "no memory: it stays, and ends up empty by itself" in caplog.text
    assert scene.cutoff.closed


def test_a_kernel_that_keeps_or_refuses_an_address_is_told(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene().begun()
    scene.kernel.refuses_to_put.add(VIP)
    assert scene.renew() == f"the kernel refused {VIP}"
    assert VIP.ip not in scene.cutoff.live
    scene.kernel.refuses_to_put.clear()
    scene.renew()
    scene.kernel.refuses_to_take.add(VIP)
    scene.leases.release("web")
    assert f"cannot release a VIP of group web: the kernel kept {VIP}" in caplog.text
    assert VIP.ip not in scene.cutoff.live  # and silent all the same


def test_what_is_left_is_told_in_milliseconds() -> None:
    scene = Scene().begun()
    assert scene.left is None
    scene.renew()
    assert scene.left == 2952
    scene.now += 1.5
    assert scene.left == 1452
    scene.now += 10
    assert scene.left == 0
    assert scene.leases.lasts("web") == 2


def test_what_stands_is_resumable_and_what_has_ended_is_taken_off() -> None:
    scene = Scene().begun()
    assert scene.leases.resumable() == set()
    scene.renew()
    scene.now += STANDING - 0.001
    assert scene.leases.resumable() == {"web"}
    scene.now += 0.001
    assert scene.leases.resumable() == set()
    assert scene.kernel.bound == {}
    scene.renew()
    del scene.kernel.bound[2, VIP]
    assert scene.leases.resumable() == set()
    assert scene.cutoff.live == {}


LEFTOVERS: list[tuple[Callable[[Scene], object], str]] = [
    (lambda scene: scene.kernel.bound.update({(5, VIP): 600}), f"removed {VIP}, which an earlier run left behind"),
    (
        lambda scene: scene.cutoff.leftovers.append("carp-sidecar-eth0-9"),
        "removed nftables table carp-sidecar-eth0-9, which an earlier run left behind",
    ),
]


@pytest.mark.parametrize(("leave", "said"), LEFTOVERS, ids=["address", "table"])
def test_leftovers_are_swept_and_reported(
    leave: Callable[[Scene], object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene()
    leave(scene)
    scene.leases.begin()
    assert said in caplog.messages
    assert (scene.kernel.bound, scene.cutoff.leftovers) == ({}, [])


def test_a_leftover_that_stays_keeps_nobody_from_beginning(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.kernel.bound[5, VIP] = 2
    scene.kernel.refuses_to_take.add(VIP)
    scene.leases.begin()
    assert f"the kernel kept {VIP}: what an earlier run left behind stays until its lease ends" in caplog.messages
    assert scene.cutoff.managed == [VIP.ip]


def test_our_own_table_does_not_stay_where_nothing_is_leased_by_it() -> None:
    scene = Scene(group_plan(vips=(str(VIP),), lease="address"), cutoff=FakeCutoff(managed=[VIP.ip])).begun()
    assert scene.cutoff.managed is None
    scene.cutoff.refuses = "there is no nf_tables"
    scene.leases.begin()
    scene.leases.close()
    assert scene.cutoff.closed


def test_the_end_leaves_no_table() -> None:
    scene = Scene().begun()
    scene.renew()
    scene.leases.release_all()
    scene.leases.close()
    assert (scene.kernel.bound, scene.cutoff.managed) == ({}, None)


def test_what_is_in_force_is_said_once_for_all_groups_alike(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fast = group_plan(name="fast", vhid=8, vips=("10.0.0.202/32",), advbase=0, advskew=4, lease="address")
    Scene(group_plan(vips=(str(VIP),)), group_plan(name="db", vhid=7, vips=(str(OTHER),)), fast).begun()
    common, risky = [record for record in caplog.records if record.message.startswith("lease of")]
    assert common.levelname == "INFO"
    assert common.message.startswith("lease of group web, db: nftables: ")
    assert risky.levelname == "WARNING"
    assert risky.message.endswith("two nodes may answer")


def test_each_sidecar_has_a_table_of_its_own() -> None:
    tables = {Leases((group_plan(interface=nic, vhid=vhid),))._cutoff.table for nic in ("a", "b") for vhid in (1, 2)}
    assert tables == {"carp-sidecar-a-1", "carp-sidecar-a-2", "carp-sidecar-b-1", "carp-sidecar-b-2"}
    assert Leases(())._cutoff.table == "carp-sidecar"


def test_what_nobody_renews_any_more_is_taken_off_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(group_plan(vips=(str(VIP),), lease="off")).begun()
    assert scene.leases.next_end() == math.inf
    scene.renew()
    scene.now += 1
    assert scene.leases.expire() == []
    assert scene.leases.next_end() == pytest.approx(STANDING - 1)
    scene.now += 5
    assert scene.leases.next_end() == 0
    assert scene.leases.expire() == ["web"]
    assert scene.kernel.bound == {}
    assert "the lease of group web has ended" in caplog.messages


# Kept over a restart --------------------------------------------------------------------------------------------------

KEEP = group_plan(vips=(str(VIP),), on_exit="keep")


def test_what_is_kept_at_the_end_stays_and_what_is_not_goes() -> None:
    scene = Scene(KEEP, group_plan(name="db", vhid=7, vips=(str(OTHER),))).begun()
    scene.renew()
    scene.renew(group="db")
    scene.now += 1.0
    assert scene.leases.keep() == pytest.approx(STANDING - 1.0)
    assert scene.leases.keep() == math.inf
    assert scene.leases.release_all() == ["db"]
    scene.leases.close()
    assert scene.kernel.bound == {(2, VIP): 3}
    assert scene.cutoff.managed is not None
    assert list(scene.cutoff.live) == [VIP.ip]


def test_without_a_planned_stop_what_would_be_kept_is_given_back_too() -> None:
    scene = Scene(KEEP).begun()
    scene.renew()
    scene.leases.release_all()
    scene.leases.close()
    assert (scene.kernel.bound, scene.cutoff.managed) == ({}, None)


def after_a_restart(*groups: GroupPlan, live: int = 1500, unavailable: str | None = None) -> Scene:
    """Return a start that finds the VIP on interface 2 and in the table, with what is left of both."""
    cutoff = FakeCutoff(managed=[VIP.ip], live={VIP.ip: live} if live else {}, unavailable=unavailable)
    scene = Scene(*groups, cutoff=cutoff)
    scene.kernel.bound[2, VIP] = 2
    return scene


def test_a_start_within_the_lease_takes_it_over_without_a_gap() -> None:
    scene = after_a_restart(KEEP).begun()
    assert (scene.leases.holds("web"), scene.left) == (True, 1500)
    assert scene.kernel.bound == {(2, VIP): 2}
    assert scene.cutoff.installs == 1
    assert 1500 - scene.leases._tick <= scene.cutoff.live[VIP.ip] <= 1500
    assert scene.leases.resumable() == {"web"}
    scene.now += 1.5
    assert scene.leases.resumable() == set()
    assert scene.kernel.bound == {}


def test_without_nftables_the_address_tells_what_is_left() -> None:
    scene = after_a_restart(KEEP, unavailable="the kernel has no nf_tables").begun()
    assert scene.left == 2000
    scene = after_a_restart(KEEP, unavailable="the kernel has no nf_tables")
    scene.kernel.bound[2, VIP] = 0
    assert not scene.begun().leases.holds("web")


@pytest.mark.parametrize(
    ("plan", "live", "unavailable"),
    [
        (group_plan(vips=(str(VIP),)), 1500, None),
        (KEEP, 0, None),
        (group_plan(vips=(str(VIP), str(OTHER)), on_exit="keep"), 1500, None),
        (group_plan(vips=(str(VIP),), on_exit="keep", advbase=0, advskew=4), 1500, "the kernel has no nf_tables"),
    ],
    ids=["it hands over", "the lease has ended", "one is missing", "peers may have taken over"],
)
def test_what_cannot_be_resumed_is_swept(plan: GroupPlan, live: int, unavailable: str | None) -> None:
    scene = after_a_restart(plan, live=live, unavailable=unavailable).begun()
    assert not scene.leases.holds("web")
    assert (scene.kernel.bound, scene.cutoff.live) == ({}, {} if unavailable is None else {VIP.ip: live})


def test_a_table_that_cannot_be_read_is_resumed_from_by_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Unreadable(FakeCutoff):
        def remaining(self, vips: object) -> dict[IPAddress, int]:  # noqa: ARG002 - as the real one
            raise CutoffError("nftables cannot be read")

    scene = Scene(KEEP, cutoff=Unreadable())
    scene.kernel.bound[2, VIP] = 2
    scene.leases.begin()
    assert "nftables cannot be read: what an earlier run kept is not resumed" in caplog.messages
    assert scene.kernel.bound == {}


# Other settings ------------------------------------------------------------------------------------------------------


def test_groups_come_and_go_and_those_that_stay_keep_their_leases() -> None:
    web, db = group_plan(vips=(str(VIP),)), group_plan(name="db", vhid=43, vips=(str(OTHER),))
    scene = Scene(web).begun()
    assert scene.renew() is None
    left = scene.cutoff.live[VIP.ip]
    scene.leases.change([web, db], ended=[])
    scene.leases.begun({"db": 3})
    assert (scene.cutoff.managed, scene.cutoff.live) == ([VIP.ip, OTHER.ip], {VIP.ip: left})
    assert scene.renew(group="db") is None
    assert scene.kernel.bound.keys() == {(2, VIP), (3, OTHER)}
    scene.leases.change([web], ended=["db"])
    scene.leases.begun({})
    assert scene.kernel.bound.keys() == {(2, VIP)}
    assert (scene.cutoff.managed, scene.cutoff.live.keys()) == ([VIP.ip], {VIP.ip})
    assert (scene.leases.knows("db"), scene.leases.holds("web")) == (False, True)
    installs = scene.cutoff.installs
    scene.leases.change([web], ended=[])
    scene.leases.begun({})
    assert scene.cutoff.installs == installs  # nothing is new


def test_other_timing_counts_from_when_the_engine_goes_on_with_it() -> None:
    """A renewal that is under way was computed by the old one; by the new one it would be long over."""
    web = group_plan(vips=(str(VIP),))
    scene = Scene(web).begun()
    assert scene.renew() is None
    slow = group_plan(vips=(str(VIP),), advbase=10)
    scene.leases.change([slow], ended=[])
    scene.leases.begun({})
    assert scene.leases.lasts("web") > 20.0  # what the engine is told
    assert scene.renew() is None
    assert scene.kernel.bound == {(2, VIP): 3}
    scene.leases.changed("web")
    until = scene.now + timing.standing(advbase=10, advskew=0, dead_ratio=3)
    assert scene.leases.renew("web", until=until) is None
    assert scene.kernel.bound[2, VIP] > 20


def test_the_kind_of_a_lease_changes_while_it_stands() -> None:
    web = group_plan(vips=(str(VIP),))
    scene = Scene(web).begun()
    assert scene.renew() is None
    scene.leases.change([group_plan(vips=(str(VIP),), lease="address")], ended=[])
    scene.leases.begun({})
    assert scene.cutoff.managed == [VIP.ip]
    scene.leases.all_changed()
    assert scene.cutoff.managed is None
    assert scene.renew() is None
    assert scene.leases.status("web").kind == "address"
    scene.leases.change([web], ended=[])
    scene.leases.all_changed()
    assert (scene.cutoff.managed, scene.cutoff.live.keys()) == ([VIP.ip], {VIP.ip})
    assert scene.leases.holds("web")


def test_fast_adverts_put_the_addresses_seldom_and_the_lease_counts_all_the_same() -> None:
    """To put them takes a lock that others hold for long. Once they were taken off, they are put at once."""
    standing = timing.standing(advbase=0, advskew=4, dead_ratio=3)
    scene = Scene(group_plan(vips=(str(VIP),), advbase=0, advskew=4)).begun()

    def renew() -> int:
        assert scene.leases.renew("web", until=scene.now + standing) is None
        assert standing * 1000 - scene.leases._tick < scene.cutoff.live[VIP.ip] <= standing * 1000
        return scene.kernel.calls.count(("put", VIP))

    puts = []
    for _ in range(120):
        puts.append(renew())
        scene.now += 4 / 256
    assert sorted(set(puts)) == [1, 2, 3, 4, 5], "two for each second"
    scene.leases.release("web")
    assert renew() == 6
    scene.leases.place("web", index=3)
    assert (renew(), (3, VIP) in scene.kernel.bound) == (7, True)


def test_a_kernel_that_is_held_up_holds_up_neither_a_renewal_nor_a_release() -> None:
    """Whoever sets up a network holds the lock that addresses take, and not the one of nftables."""
    scene = Scene().begun()
    scene.renew()
    scene.thread.stalled = True
    for _ in range(5):
        scene.now += 1.0
        assert scene.renew() is None
        assert scene.cutoff.live[VIP.ip] > 2900
    scene.leases.release("web")
    assert (scene.cutoff.live, scene.kernel.bound) == ({}, {(2, VIP): 3}), "it is silent, and there for a while"
    scene.thread.go_on()
    assert scene.kernel.bound == {}


def test_what_is_still_to_be_taken_off_is_gone_before_the_table_that_silences_it() -> None:
    web, db = group_plan(vips=(str(VIP),)), group_plan(name="db", vhid=43, vips=(str(OTHER),))
    for end in ("change", "close"):
        scene = Scene(web, db).begun()
        scene.renew()
        scene.renew(group="db")
        gone: list[bool] = []

        def watched(*_: object, scene: Scene = scene, gone: list[bool] = gone, **__: object) -> None:
            gone.append(not scene.kernel.bound.keys() & {(2, OTHER)})

        scene.cutoff.install = scene.cutoff.remove = watched  # type: ignore[method-assign]
        scene.thread.stalled = True
        if end == "change":
            threading.Timer(0.05, scene.thread.go_on).start()
            scene.leases.change([web], ended=["db"])
            scene.leases.begun({})
        else:
            scene.leases.release_all()
            assert (2, OTHER) in scene.kernel.bound
            scene.leases.close()
        assert gone == [True]
