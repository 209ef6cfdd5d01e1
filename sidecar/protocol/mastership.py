"""The clockwork of one mastership: when to advertise, renew and announce, and when not to believe in it any more."""

from __future__ import annotations

import math

from sidecar.protocol.timing import LATE_BY
from sidecar.protocol.types import IPAddress

ANNOUNCE_SPACING = 1.1
"""Seconds between announcements: Linux holds an ARP entry for 1 s (``locktime``) against a change."""
ANNOUNCE_COUNT = 4
ANNOUNCE_REFRESH = 60.0
"""Seconds between announcements after these: for switches and hosts that have learnt something else meanwhile."""
DEAF_WITHIN = 60.0
"""A rival that is back so many seconds after it was answered does not hear what everybody hears, and"""
DEAF_FOR = 600.0
"""gets our adverts by unicast too for so many seconds."""
RIVALS_AT_MOST = 8


class Mastership:
    """Made when a group becomes master, dropped when it no longer is. Times are monotonic seconds.

    ``interval`` is between two adverts, ``lease`` is how long the kernel keeps the VIPs after a renewal, ``patience``
    is how long peers wait for an advert. ``wait`` is how long the one before may go on holding the VIPs.
    """

    __slots__ = (
        "_announce_at",
        "_announcements_left",
        "_answer_by",
        "_bind_at",
        "_bound_at",
        "_deaf_until",
        "_interval",
        "_last_advert",
        "_lease",
        "_next_advert",
        "_next_renewal",
        "_patience",
        "_replied_at",
        "_replied_to",
        "leased",
        "since",
    )

    def __init__(self, now: float, *, interval: float, lease: float, patience: float, wait: float = 0.0) -> None:
        self.since = now
        self._interval = interval
        self._lease = lease
        self._patience = max(patience, LATE_BY * interval)
        self._last_advert = self._next_advert = now
        self._answer_by = math.inf
        self._replied_at = -math.inf
        self._replied_to: dict[IPAddress, float] = {}
        self._deaf_until: dict[IPAddress, float] = {}
        self.begin_lease(now)
        if wait:
            self._bind_at = now + wait
            self._answer_by = math.inf

    @property
    def deadline(self) -> float:
        """When something is due."""
        return min(self._next_advert, self._announce_at, self._answer_by, self._bind_at)

    # Adverts and renewals ----------------------------------------------------------------------------------------

    def advert_due(self, now: float) -> bool:
        """Tell whether it is time for an advert."""
        return now >= self._next_advert

    def advertise(self, now: float) -> bool:
        """Note that an advert leaves; return whether the lease is renewed with it.

        A renewal comes with an advert and never without: peers count from the last advert, and the lease must end
        before they take over. Fast adverts need not renew each time: an eighth of the lease between renewals is near
        enough.
        """
        self._last_advert = now
        # From when it was due: a loop that wakes a little late each time must not advertise less often for it.
        late = now - self._next_advert
        self._next_advert = now + self._interval - (late if 0 <= late < self._interval / 2 else 0.0)
        if not self.leased or now < self._next_renewal:  # before that, Bind is on its way
            return False
        self._await_answer(now)
        return True

    def silence(self, now: float) -> float | None:
        """Return for how many seconds no advert was sent if peers no longer wait, or None if they do."""
        silent = now - self._last_advert
        return silent if silent >= self._patience else None

    def may_reply(self, listener: IPAddress | None, now: float) -> bool:
        """Tell whether a rival gets an answer now, at most once per interval: his answer must not start a storm.

        ``listener`` is its address if it hears unicast.
        """
        if now - self._replied_at < self._interval:
            return False
        self._replied_at = now
        if listener is not None and (listener in self._replied_to or len(self._replied_to) < RIVALS_AT_MOST):
            if now - self._replied_to.get(listener, -math.inf) < DEAF_WITHIN:
                self._deaf_until[listener] = now + DEAF_FOR
            self._replied_to[listener] = now
        return True

    def deaf(self, now: float) -> tuple[IPAddress, ...]:
        """Return the rivals that do not hear what everybody hears."""
        if self._deaf_until:
            self._deaf_until = {rival: until for rival, until in self._deaf_until.items() if until > now}
        return tuple(self._deaf_until)

    # The lease ---------------------------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether Bind has to wait until the one before has let go."""
        return self._bind_at < math.inf

    def waits_for(self, now: float) -> float:
        """Return for how many seconds."""
        return max(0.0, self._bind_at - now) if self.waits else 0.0

    def bind_due(self, now: float) -> bool:
        """Tell whether he has had his time."""
        return now >= self._bind_at

    def begin_lease(self, now: float) -> None:
        """Note that Bind is on its way; its answer is news, and is announced as after a takeover."""
        self.leased = False
        self._bind_at = math.inf
        self._announcements_left = ANNOUNCE_COUNT
        self._announce_at = math.inf
        self._bound_at = now
        self._await_answer(now)

    def answered(self) -> bool:
        """Note that the lease stands; return whether that is news."""
        self._answer_by = math.inf
        news, self.leased = not self.leased, True
        return news

    @property
    def confirmed_late(self) -> bool:
        """Whether adverts have left since Bind, whose lease counts from then and may be nearly over at its answer."""
        return self._last_advert - self._bound_at > self._lease / 8

    def unanswered(self, now: float) -> bool:
        """Tell whether the parent has confirmed nothing for the length of a lease."""
        return now >= self._answer_by

    def _await_answer(self, now: float) -> None:
        seldom = self._lease / 8
        self._next_renewal = now + seldom if self._interval < seldom else now
        self._answer_by = min(self._answer_by, now + self._lease)

    # Announcements -----------------------------------------------------------------------------------------------

    def announcement_due(self, now: float) -> bool:
        """Tell whether it is time for another announcement."""
        return now >= self._announce_at

    def announce(self, now: float) -> None:
        """Note an announcement and plan the next one."""
        self._announcements_left -= 1
        self._announce_at = now + (ANNOUNCE_SPACING if self._announcements_left > 0 else ANNOUNCE_REFRESH)

    def announce_out_of_turn(self, now: float) -> None:
        """Note an announcement because of a rival or a new link, and plan another for when all have settled."""
        self._announcements_left = max(self._announcements_left, 1)
        self._announce_at = now + ANNOUNCE_SPACING
