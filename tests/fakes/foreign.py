"""How the other implementations compare, advertise, wait and yield, each from its own source.

OpenBSD ip_carp.c 1.370, FreeBSD ip_carp.c of 2023, NetBSD ip_carp.c 1.76, ucarp 1.5.2 (carp.c). ``sc`` and ``ch`` are
their names: the interval that one advertises itself, and the one in the header that it received.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from sidecar.protocol.effects import Advertise
from sidecar.protocol.events import AdvertReceived
from sidecar.protocol.types import BOW_OUT, GroupConfig, IPAddress, Role

GOODBYE = Advertise(advbase=BOW_OUT, advskew=BOW_OUT, demotion=0)


def timeval(advbase: int, advskew: int) -> float:
    """advbase seconds and advskew * 1000000 / 256 microseconds, cut as C does."""
    return advbase + advskew * 1_000_000 // 256 / 1_000_000


class Foreign(ABC):
    """One group of another implementation. ``preempt`` is net.inet.carp.preempt, or ucarp's -P.

    It advertises, and runs a master-down timer, for each IP version in which it has addresses: those of ``source`` and
    ``second_source``.
    """

    says_goodbye = False
    """Whether ``ifconfig carpN down`` sends a last advert (OpenBSD, NetBSD); FreeBSD and ucarp never do."""
    reads_late = 0.0
    """Seconds by which an advert may be acted upon late: ucarp's capture fills a buffer for as long."""

    def __init__(self, config: GroupConfig, *, demotion: int = 0) -> None:
        self.config = config
        self.demotion = demotion
        self.role = Role.INIT
        sources = (config.source, config.second_source)
        self.down_at = {source.version: math.inf for source in sources if source is not None}
        self.next_advert = math.inf

    # What differs ----------------------------------------------------------------------------------------------------

    @property
    def advskew(self) -> int:
        """The skew that it advertises and compares."""
        return self.config.advskew

    @property
    def demote_byte(self) -> int:
        return 0

    @property
    def sc(self) -> float:
        return timeval(self.config.advbase, self.advskew)

    @property
    def interval(self) -> float:
        return self.sc

    @property
    def patience(self) -> float:
        """The master-down interval, from its own configured values."""
        return timeval(3 * self.config.advbase, self.config.advskew)

    @abstractmethod
    def yields_to(self, advert: AdvertReceived) -> bool:
        """As MASTER."""

    def overtakes(self, advert: AdvertReceived) -> bool:
        """As BACKUP, at once: a preempted master, or one that is too slow for our timer."""
        ch = timeval(advert.advbase, advert.advskew)
        too_slow = timeval(3 * self.config.advbase, self.advskew) < ch
        return (self.config.preempt and self.sc < ch) or too_slow

    # What does not ---------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """INIT to BACKUP with full down timers."""
        self._become_backup(now)

    def stop(self) -> list[Advertise]:
        was_master = self.role is Role.MASTER
        self.crash()
        return [GOODBYE] if was_master and self.says_goodbye else []

    def crash(self) -> None:
        self.role = Role.INIT

    def deadline(self) -> float:
        match self.role:
            case Role.INIT:
                return math.inf
            case Role.BACKUP:
                return min(self.down_at.values())
            case _:
                return self.next_advert

    def tick(self, now: float) -> list[Advertise]:
        if now < self.deadline():
            return []
        self.role = Role.MASTER
        return [self._advertise(now)]

    def hear(self, advert: AdvertReceived, now: float) -> list[Advertise]:
        version = advert.source.version
        if version not in self.down_at:
            return []
        if self.role is Role.MASTER and self.yields_to(advert):
            self._become_backup(now)
        elif self.role is Role.BACKUP:
            if self.overtakes(advert):
                self.role = Role.MASTER
                return [self._advertise(now)]
            self.down_at[version] = self._until(now)
        return []

    def _become_backup(self, now: float) -> None:
        self.role = Role.BACKUP
        self.down_at = dict.fromkeys(self.down_at, self._until(now))

    def _until(self, now: float) -> float:
        """Return when it takes over if it hears nothing from now on."""
        return now + self.patience

    def _advertise(self, now: float) -> Advertise:
        self.next_advert = now + self.interval
        return Advertise(advbase=self.config.advbase, advskew=self.advskew, demotion=self.demote_byte)


class FreeBSD(Foreign):
    """net.inet.carp.demotion is added to the skew on the wire and in comparisons, 0..240; equal always yields."""

    @property
    def advskew(self) -> int:
        return max(0, min(self.config.advskew + self.demotion, 240))

    def yields_to(self, advert: AdvertReceived) -> bool:
        return self.sc >= timeval(advert.advbase, advert.advskew)


class NetBSD(Foreign):
    """Whatever suppresses preemption makes the skew at least 240; equal always yields."""

    says_goodbye = True

    @property
    def advskew(self) -> int:
        return max(self.config.advskew, 240) if self.demotion else self.config.advskew

    def yields_to(self, advert: AdvertReceived) -> bool:
        return self.sc >= timeval(advert.advbase, advert.advskew)


class OpenBSD(Foreign):
    """The demote counter travels in byte 4 and counts before the skew; equal always yields."""

    says_goodbye = True

    @property
    def demote_byte(self) -> int:
        return min(self.demotion, 255)

    @property
    def interval(self) -> float:
        return self.sc or 1 / 256

    @property
    def patience(self) -> float:
        return 3 * self.interval

    def yields_to(self, advert: AdvertReceived) -> bool:
        slower = self.sc >= timeval(advert.advbase, advert.advskew) and advert.demotion <= self.demotion
        return slower or advert.demotion < self.demotion

    def overtakes(self, advert: AdvertReceived) -> bool:
        ch = timeval(advert.advbase, advert.advskew)
        if self.config.preempt and self.sc < ch and advert.demotion >= self.demotion:
            return True
        too_slow = self.config.advbase != 0 and timeval(3 * self.config.advbase, self.advskew) < ch
        return advert.demotion > self.demotion or too_slow


class Ucarp(NetBSD):
    """Equal masters compare s_addr as a little-endian number; who yields sends one more advert before it does.

    It looks at its down timer only when poll() returns, which takes advbase s and advskew ms.
    """

    says_goodbye = False
    reads_late = 1.0

    @property
    def patience(self) -> float:
        return timeval(self.config.dead_ratio * self.config.advbase, self.config.advskew)

    def yields_to(self, advert: AdvertReceived) -> bool:
        ch = timeval(advert.advbase, advert.advskew)
        return self.sc > ch or (self.sc == ch and little_endian(advert.source) < little_endian(self.config.source))

    def overtakes(self, advert: AdvertReceived) -> bool:
        ch = timeval(advert.advbase, advert.advskew)
        too_slow = timeval(self.config.dead_ratio * self.config.advbase, self.advskew) < ch
        return (self.config.preempt and self.sc < ch) or too_slow

    def hear(self, advert: AdvertReceived, now: float) -> list[Advertise]:
        last_words = [self._advertise(now)] if self.role is Role.MASTER and self.yields_to(advert) else []
        return last_words + super().hear(advert, now)

    def _until(self, now: float) -> float:
        poll = self.config.advbase + self.config.advskew / 1000 or 0.001
        return now + poll * math.ceil(self.patience / poll)


def little_endian(address: IPAddress) -> int:
    """Return s_addr as x86 and arm64 read it: the last octet counts most."""
    return int.from_bytes(address.packed, "little")


KINDS: tuple[type[Foreign], ...] = (OpenBSD, FreeBSD, NetBSD, Ucarp)
