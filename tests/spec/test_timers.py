"""How often a master advertises, and how long a backup waits (``carp_setrun`` of the BSDs and of ucarp)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.ipc.messages import Bind, StatusRequest
from sidecar.observe.moment import boot_time
from sidecar.protocol import events
from sidecar.protocol.effects import Advertise
from sidecar.protocol.types import DropReason, Role
from tests.fakes.engine import DrivenEngine
from tests.fakes.groups import (
    OTHER,
    OWN6,
    PEER,
    PEER6,
    TICK,
    adverts,
    backup,
    heard,
    master,
    run,
    took_over,
    yielded,
)
from tests.fakes.plans import group_plan
from tests.fakes.station import StartStation
from tests.fakes.wire import advert, ipv4

SECONDS = st.integers(1, 254)
SKEW = st.integers(0, 254)


# The interval of adverts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("advbase", "advskew", "interval"),
    [(1, 0, 1.0), (1, 128, 1.5), (0, 64, 0.25), (0, 1, 1 / 256), (3, 254, 3 + 254 / 256), (254, 0, 254.0)],
)
def test_the_interval_is_advbase_plus_advskew_256ths_of_a_second(advbase: int, advskew: int, interval: float) -> None:
    assert backup(advbase=advbase, advskew=advskew).interval == interval


def test_where_both_are_0_the_interval_is_one_256th_as_with_openbsd() -> None:
    assert backup(advbase=0, advskew=0).interval == 1 / 256


@pytest.mark.parametrize(("advbase", "advskew"), [(1, 0), (1, 100), (0, 64), (2, 254)])
def test_a_master_advertises_once_per_interval_to_the_moment(advbase: int, advskew: int) -> None:
    group, at = master(advbase=advbase, advskew=advskew, lease=10.0)
    times = [now for now, effect in run(group, at + 10 * group.interval) if isinstance(effect, Advertise)]
    assert times == pytest.approx([at + n * group.interval for n in range(1, 11)])


def test_a_backup_never_advertises() -> None:
    group = backup()
    for n in range(100):
        assert group.handle(heard(), n / 2) == ()


# The master-down timer -----------------------------------------------------------------------------------------------


@given(advbase=SECONDS, advskew=SKEW, dead_ratio=st.integers(1, 255))
def test_master_down_is_dead_ratio_times_advbase_plus_advskew_256ths_as_with_ucarp(
    advbase: int, advskew: int, dead_ratio: int
) -> None:
    down = backup(advbase=advbase, advskew=advskew, dead_ratio=dead_ratio).master_down
    assert down == pytest.approx(dead_ratio * advbase + advskew / 256)


@given(advbase=SECONDS, advskew=SKEW)
def test_by_default_it_is_3_times_advbase_plus_advskew_256ths_as_with_freebsd_and_netbsd(
    advbase: int, advskew: int
) -> None:
    assert backup(advbase=advbase, advskew=advskew).master_down == pytest.approx(3 * advbase + advskew / 256)


@given(advbase=SECONDS, advskew=SKEW)
def test_the_skew_counts_once_and_is_not_ignored_so_we_stand_up_before_an_openbsd_of_the_same_skew(
    advbase: int, advskew: int
) -> None:
    """OpenBSD waits 3 x (advbase + advskew/256)."""
    down = backup(advbase=advbase, advskew=advskew).master_down
    openbsd = 3 * (advbase + advskew / 256)
    assert (down < openbsd) is (advskew > 0)
    assert (down > 3 * advbase) is (advskew > 0)


@given(advskew=st.integers(1, 254), dead_ratio=st.integers(1, 255))
def test_where_advbase_is_0_it_is_3_intervals_as_with_openbsd(advskew: int, dead_ratio: int) -> None:
    """ucarp's formula would leave one interval, and its backups flap."""
    group = backup(advbase=0, advskew=advskew, dead_ratio=dead_ratio)
    assert group.master_down == pytest.approx(dead_ratio * advskew / 256)


def test_where_both_are_0_it_is_3_256ths_as_with_openbsd() -> None:
    assert backup(advbase=0, advskew=0).master_down == 3 / 256


def test_our_own_values_set_the_timer_and_the_masters_never_do() -> None:
    group = backup(advskew=64)
    for now, (advbase, advskew) in enumerate([(1, 0), (3, 0), (1, 255), (0, 1), (2, 128)], start=1):
        assert group.handle(heard(advbase=advbase, advskew=advskew), now) == ()
        assert group.deadline() == now + 3.25


def test_the_configured_skew_counts_not_the_one_that_demotion_advertises() -> None:
    """As with FreeBSD and NetBSD."""
    group = backup(advskew=10, demotion=200)
    assert group.deadline() == pytest.approx(3 + 10 / 256)
    group.handle(heard(), 1.0)
    assert group.deadline() == pytest.approx(4 + 10 / 256)


def test_the_configured_skew_sets_the_sending_interval_too_whatever_demotion_advertises() -> None:
    group, at = master(demotion=200)
    times = [now - at for now, effect in run(group, at + 3.5) if isinstance(effect, Advertise)]
    assert times == [1.0, 2.0, 3.0]


def test_init_becomes_backup_with_a_full_timer_as_with_all() -> None:
    assert backup(at=100.0, advskew=128).deadline() == 103.5


def test_every_accepted_advert_that_triggers_no_takeover_restarts_the_timer() -> None:
    group = backup()
    for now in (0.5, 3.0, 5.999, 6.0):
        assert group.handle(heard(advskew=100), now) == ()
        assert group.deadline() == now + 3.0


def test_an_advert_of_another_master_restarts_it_as_well() -> None:
    group = backup()
    group.handle(heard(), 1.0)
    group.handle(heard(source=OTHER), 2.0)
    assert group.deadline() == 5.0


def test_a_dropped_packet_does_not_restart_it(station: StartStation) -> None:
    ours = station()
    ours.pass_time(2.5)
    assert ours.hear(ipv4(advert(mac=bytes(20)))) is DropReason.BAD_HMAC
    assert ours.hear(ipv4(advert(), ttl=64)) is DropReason.BAD_TTL
    assert ours.runner.group.deadline() == 3.0


def test_when_it_fires_the_backup_is_master_at_that_very_moment() -> None:
    group = backup(advskew=50)
    assert group.handle(TICK, 3 + 50 / 256 - 1e-6) == ()
    assert took_over(group.handle(TICK, 3 + 50 / 256)) is not None


# Two families --------------------------------------------------------------------------------------------------------


def both(**changes: object) -> dict[str, object]:
    return {"second_source": OWN6, **changes}


def test_each_family_has_a_timer_of_its_own_as_with_openbsd_and_freebsd() -> None:
    group = backup(**both())
    group.handle(heard(), 1.0)
    group.handle(heard(source=PEER6), 2.0)
    assert group.deadline() == 4.0
    group.handle(heard(), 2.5)
    assert group.deadline() == 5.0


@pytest.mark.parametrize("living", [PEER, PEER6], ids=["ipv6-silent", "ipv4-silent"])
def test_either_timer_that_fires_makes_a_master(living: IPv4Address) -> None:
    group = backup(**both())
    for now in (0.5, 1.5, 2.5):
        assert group.handle(heard(source=living), now) == ()
    assert group.deadline() == 3.0
    assert took_over(group.handle(TICK, 3.0)) is not None


def test_a_family_that_the_group_does_not_speak_has_no_timer() -> None:
    group = backup()
    group.handle(heard(), 1.0)
    assert group.handle(heard(source=PEER6), 3.0) == ()
    assert group.deadline() == 4.0


def deaf_on_ipv6() -> tuple[object, float]:
    """A node that took over for hearing nothing on IPv6, and lost that to the master that it hears on IPv4."""
    group = backup(**both(advskew=100))
    down = group.master_down
    group.handle(heard(), down - 0.5)
    assert took_over(group.handle(TICK, down)) is not None
    group.handle(events.LeaseAnswered(error=None), down)
    assert yielded(group.handle(heard(), down + 0.1)) is not None
    return group, down + 0.1


def test_after_a_takeover_lost_to_a_master_heard_on_one_family_the_deaf_ones_timer_rests() -> None:
    """OpenBSD and FreeBSD would take over in vain after each master-down interval."""
    group, now = deaf_on_ipv6()
    for _ in range(20):
        now += 1.0
        assert group.handle(heard(), now) == ()
        assert group.deadline() == pytest.approx(now + group.master_down)
    assert took_over(group.handle(TICK, now + group.master_down)) is not None


def test_it_runs_again_once_the_family_is_heard_regularly() -> None:
    group, now = deaf_on_ipv6()
    assert group.handle(heard(source=PEER6), now + 0.5) == ()
    group.handle(heard(), now + 1.0)
    assert group.handle(heard(source=PEER6), now + 1.5) == ()
    for later in (2.0, 3.0, 4.0):
        group.handle(heard(), now + later)
    assert group.deadline() == pytest.approx(now + 1.5 + group.master_down)


# Exact, where ucarp is not -------------------------------------------------------------------------------------------


def test_deadlines_are_met_and_not_polled_for() -> None:
    """ucarp looks at its timer only when poll() returns, up to one interval late."""
    for skew in (0, 37, 254):
        group = backup(advskew=skew)
        now = group.deadline()
        assert now == pytest.approx(3 + skew / 256)
        assert took_over(group.handle(TICK, now)) is not None


def test_waking_early_any_number_of_times_neither_takes_over_nor_postpones_it() -> None:
    """With ucarp a signal restarts the whole poll, so that repeated ones starve the failover."""
    group = backup()
    for n in range(299):
        assert group.handle(TICK, n / 100) == ()
    assert group.deadline() == 3.0
    assert took_over(group.handle(TICK, 3.0)) is not None


@pytest.fixture
def engine() -> Iterator[DrivenEngine]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far, DrivenEngine() as engine:
        near.setblocking(False)
        engine.open(near)
        yield engine


def test_questions_to_the_process_do_not_starve_the_failover(engine: DrivenEngine) -> None:
    """SIGUSR1 every second does with ucarp."""
    engine.start(group_plan(vips=("10.0.0.200/32",)))
    for _ in range(29):
        engine.pass_time(0.1)
        engine.tell(StatusRequest(token=1))
    assert not any(isinstance(message, Bind) for message in engine.said())
    engine.pass_time(0.1)
    assert any(isinstance(message, Bind) for message in engine.said())


def test_time_is_that_of_clock_boottime_which_no_step_of_the_wall_clock_moves() -> None:
    """ucarp takes gettimeofday: a step ahead is a takeover, a step back is silence."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = boot_time()
    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_late_loop_sends_one_advert_and_not_a_burst_of_those_it_missed() -> None:
    group, at = master()
    assert len(adverts(group.handle(TICK, at + 2.5))) == 1
    assert adverts(group.handle(TICK, at + 2.6)) == []
    assert group.deadline() is not None


def test_advbase_0_does_not_flap() -> None:
    """ucarp's dead time is shorter there than what its capture takes to show a packet."""
    group = backup(advbase=0, advskew=128)
    for n in range(1, 400):
        assert group.handle(heard(advbase=0, advskew=64), n / 4) == ()
    assert group.role is Role.BACKUP
