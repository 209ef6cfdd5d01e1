"""Addresses are kept by a thread: whoever holds the kernel up holds up neither a renewal nor a release."""

from __future__ import annotations

import threading
from ipaddress import ip_interface

import pytest

from sidecar.keeper import Keeper
from sidecar.net.lease import VipLease
from tests.fakes.addresses import FakeAddresses
from tests.fakes.executor import FakeExecutor

VIP = ip_interface("10.0.0.200/32")
HERE, THERE = VipLease(index=2, vips=(VIP,)), VipLease(index=3, vips=(VIP,))


class Scene:
    """A keeper whose thread does at once what it is asked for, until it is ``stalled``."""

    def __init__(self) -> None:
        self.now = 0.0
        self.kernel = FakeAddresses()
        self.thread = FakeExecutor()
        self.keeper = Keeper(self.thread)
        self.keeper.open(self.kernel)

    def keep(self, lease: VipLease = HERE, *, lifetime: int = 1, for_: float = 0.1) -> tuple[bool, str | None]:
        return self.keeper.keep("web", lease, lifetime=lifetime, now=self.now, until=self.now + for_)

    @property
    def puts(self) -> int:
        return self.kernel.calls.count(("put", VIP))


def test_the_first_time_it_waits_and_later_it_asks_in_time_and_goes_on() -> None:
    scene = Scene()
    scene.thread.stalled = True
    assert scene.keep() == (True, None)
    assert scene.kernel.bound == {(2, VIP): 1}
    scene.now = 0.37
    assert (scene.keep(), scene.puts) == ((False, None), 1)
    scene.now = 0.39
    assert (scene.keep(), scene.puts) == ((True, None), 1)
    for _ in range(10):
        scene.now += 0.01
        assert scene.keep() == (False, None)
    scene.thread.go_on()
    assert (scene.keep(), scene.puts) == ((False, None), 2)


def test_a_kernel_that_is_held_up_for_longer_than_the_address_lasts_holds_nobody_up() -> None:
    scene = Scene()
    scene.keep()
    scene.thread.stalled = True
    asked = 0
    for _ in range(100):
        scene.now += 0.1
        put, error = scene.keep()
        asked += put
        assert error is None
    assert 20 <= asked <= 30, "two in a second"
    assert scene.puts == 1
    scene.thread.go_on()
    assert scene.keep() == (False, None)


def test_what_lasts_too_short_for_new_settings_is_asked_for_again() -> None:
    scene = Scene()
    scene.keep()
    scene.thread.stalled = True
    scene.now = 0.5
    assert scene.keep() == (True, None)
    assert scene.keep(lifetime=30, for_=29.0) == (True, None)
    scene.thread.go_on()
    assert scene.kernel.bound == {(2, VIP): 30}


def test_a_refusal_is_told_at_the_next_renewal_and_then_it_is_put_anew() -> None:
    scene = Scene()
    scene.keep()
    scene.kernel.refuses_to_put.add(VIP)
    scene.now = 0.5
    assert scene.keep() == (True, None)
    assert scene.keep() == (False, f"the kernel refused {VIP}")
    assert scene.keep() == (True, f"the kernel refused {VIP}")
    scene.kernel.refuses_to_put.clear()
    assert scene.keep() == (True, None)
    assert scene.kernel.bound == {(2, VIP): 1}


@pytest.mark.parametrize("why", ["forgotten", "elsewhere", "over"])
def test_where_they_may_not_be_any_more_it_waits_for_them_anew(why: str) -> None:
    scene = Scene()
    scene.keep()
    scene.thread.stalled = True
    lease = HERE
    if why == "forgotten":
        scene.keeper.forget("web")
    elif why == "elsewhere":
        lease = THERE
    else:
        scene.now = 1.0
    assert scene.keep(lease) == (True, None)
    assert scene.puts == 2


def test_taken_off_by_and_by_and_put_again_in_the_right_order(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.keep()
    scene.thread.stalled = True
    scene.keeper.take("web", HERE)
    assert scene.kernel.bound
    pending = scene.keeper._pending["web"]
    waiter = threading.Thread(target=scene.keep)
    waiter.start()
    scene.thread.go_on()
    waiter.join()
    assert pending.done()
    assert scene.kernel.calls == [("put", VIP), ("take", VIP), ("put", VIP)]
    scene.kernel.refuses_to_take.add(VIP)
    scene.keeper.take("web", HERE)
    assert f"cannot release a VIP of group web: the kernel kept {VIP}" in caplog.text
    assert scene.keeper.settle("web") is None


def test_at_the_end_all_is_done_that_was_asked_for() -> None:
    scene = Scene()
    scene.keep()
    scene.thread.stalled = True
    scene.keeper.take("web", HERE)
    scene.keeper.close()
    assert scene.kernel.bound == {}
    Keeper().close()


def test_all_that_is_to_be_done_is_waited_for_by_a_real_thread() -> None:
    kernel, done = FakeAddresses(), []
    keeper = Keeper()
    keeper.open(kernel)
    keeper.keep("web", HERE, lifetime=1, now=0.0, until=0.1)
    keeper.take("web", HERE)
    keeper.run(lambda: done.append(threading.current_thread().name))
    keeper.settle_all()
    assert kernel.bound == {}
    keeper.close()
    assert done == ["addresses_0"]
