"""Keeps the addresses of leases that nftables ends, in a thread of its own: nobody waits for the kernel's rtnl lock.

Whoever sets up or tears down a network on this node, as for each pod, holds that lock for tens or hundreds of
milliseconds, and a request that needs it waits in ``send``. Milliseconds need no such lock; they go on being extended
meanwhile. An address whose time is up waits for the same lock, as a rule behind the request that extends it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass

from sidecar.net.addresses import Addresses
from sidecar.net.lease import KERNEL_EARLY, VipLease

log = logging.getLogger(__name__)

_EARLIER = 0.5
"""Seconds that an address has left beyond its milliseconds when it is extended."""


@dataclass(slots=True)
class _Kept:
    placed: VipLease
    ends: float


class Keeper:
    """``open`` comes first. What is done with one group's addresses is done in the order in which it was asked for."""

    def __init__(self, executor: Executor | None = None) -> None:
        self._executor = executor
        self._kernel: Addresses | None = None
        self._kept: dict[str, _Kept] = {}
        """What was put and may last, by group, and until when."""
        self._pending: dict[str, Future[str | None]] = {}
        """By group, what was asked for last and may not be done yet."""

    def open(self, kernel: Addresses) -> None:
        """Begin; the thread starts with the first request."""
        self._kernel = kernel
        self._executor = self._executor or ThreadPoolExecutor(1, thread_name_prefix="addresses")

    def close(self) -> None:
        """Wait until all is done."""
        if self._executor is not None:
            self._executor.shutdown()

    def run(self, work: Callable[[], object]) -> None:
        """Have the thread itself do something."""
        self._started.submit(work)

    def keep(self, group: str, placed: VipLease, *, lifetime: int, now: float, until: float) -> tuple[bool, str | None]:
        """Have a group's addresses outlast ``until``; the first time they are there when this returns.

        Return whether they get that lifetime (s), now or soon, and why they did not the last time (then none is left).
        """
        kept, pending = self._kept.get(group), self._pending.get(group)
        if kept is None or kept.placed is not placed or (pending is None and now >= kept.ends):
            return True, self._put(group, placed, lifetime=lifetime, now=now)
        if pending is not None and pending.done():
            error = self.settle(group)
            if error is not None:
                self.forget(group)
                return False, error
        if until <= kept.ends - _EARLIER:
            return False, None
        self._pending[group] = self._started.submit(placed.renew, self._addresses, lifetime=lifetime)
        kept.ends = now + lifetime - KERNEL_EARLY
        return True, None

    def _put(self, group: str, placed: VipLease, *, lifetime: int, now: float) -> str | None:
        self.forget(group)
        self.settle(group)
        error = placed.renew(self._addresses, lifetime=lifetime)
        if error is None:
            self._kept[group] = _Kept(placed, now + lifetime - KERNEL_EARLY)
        return error

    def take(self, group: str, placed: VipLease) -> None:
        """Take a group's addresses off, which are silent already."""

        self.forget(group)
        self._pending[group] = self._started.submit(_take_off, group, placed, self._addresses)

    def forget(self, group: str) -> None:
        """Put the addresses anew the next time: somebody may have taken them off."""
        self._kept.pop(group, None)

    def settle(self, group: str) -> str | None:
        """Wait until all is done that was asked for a group; return why the last of it failed, None if it did not."""
        pending = self._pending.pop(group, None)
        return None if pending is None else pending.result()

    def settle_all(self) -> None:
        """Wait until all is done that was asked for; what failed is told when it is next asked for."""
        for pending in self._pending.values():
            pending.exception()

    @property
    def _addresses(self) -> Addresses:
        assert self._kernel is not None  # noqa: S101 - narrowing; open() came first
        return self._kernel

    @property
    def _started(self) -> Executor:
        assert self._executor is not None  # noqa: S101 - as above
        return self._executor


def _take_off(group: str, placed: VipLease, addresses: Addresses) -> None:
    error = placed.release(addresses)
    if error is not None:
        say_kept(group, error)


def say_kept(group: str, error: str) -> None:
    """Log that a VIP could not be taken off."""
    log.error("cannot release a VIP of group %s: %s", group, error, extra={"group": group})
