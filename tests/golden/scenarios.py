"""What the texts beside this file tell: each is made by the function of its name, whose docstring heads it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from tests.fakes.faults import (
    Crash,
    Demote,
    Disturb,
    EngineCrash,
    HandOver,
    Heal,
    Link,
    Mute,
    Occupy,
    ParentPause,
    Partition,
    Pause,
    Promote,
    Refuse,
    Restart,
    Stop,
)
from tests.golden.conversation import Conversation


def election_of_two() -> Conversation:
    """Two start at once: the lower skew stands up first, and the other follows it."""
    talk = Conversation({}, {"advskew": 100})
    talk.start()
    talk.until(5.5)
    return talk


def election_of_three() -> Conversation:
    """Three start one after the other; the last has the lowest skew, but nobody preempts."""
    talk = Conversation({"advskew": 100}, {"advskew": 200}, {})
    talk.start(0)
    talk.until(1.0)
    talk.start(1)
    talk.until(4.0)
    talk.start(2)
    talk.until(6.0)
    return talk


def master_dies() -> Conversation:
    """The master is killed right after an advert: its lease ends, then the timer of the backup.

    The backup's skew adds to its three intervals; when the first comes back it only listens.
    """
    talk = Conversation({}, {"advskew": 100})
    talk.start()
    talk.until(4.1)
    talk.inject(Crash(0))
    talk.until(8.5)
    talk.inject(Restart(0))
    talk.until(10.5)
    return talk


def engine_dies() -> Conversation:
    """Only the engine dies. It is back while the lease stands, goes on as master, and nobody else notices."""
    talk = Conversation({}, {"advskew": 100})
    talk.start()
    talk.until(4.1)
    talk.inject(EngineCrash(0, 0.3))
    talk.until(5.6)
    return talk


def planned_stop() -> Conversation:
    """A planned stop: release, then goodbye; both backups wait in proportion to their skew, so only one stands up.

    A backup just goes.
    """
    talk = Conversation({}, {"advskew": 50}, {"advskew": 100})
    talk.start()
    talk.until(4.1)
    talk.inject(Stop(0))
    talk.until(5.5)
    talk.inject(Stop(2))
    talk.until(6.0)
    return talk


def preempt() -> Conversation:
    """With preempt, a node that is faster than the master takes over with the next advert that it hears."""
    talk = Conversation({}, {"advskew": 100}, preempt=True)
    talk.start(1)
    talk.until(4.5)
    talk.start(0)
    talk.until(6.5)
    return talk


def preempt_in_both_families() -> Conversation:
    """Over two families the same advert arrives twice: its copy is no word that the one before has let go."""
    talk = Conversation(
        {"second_source": IPv6Address("fe80::1")},
        {"second_source": IPv6Address("fe80::2"), "advskew": 100},
        preempt=True,
    )
    talk.start(1)
    talk.until(4.5)
    talk.start(0)
    talk.until(6.5)
    return talk


def no_preempt() -> Conversation:
    """Without preempt, a faster node follows the master that is there."""
    talk = Conversation({}, {"advskew": 100})
    talk.start(1)
    talk.until(4.5)
    talk.start(0)
    talk.until(6.5)
    return talk


def _two_masters(*, sealed: bool) -> Conversation:
    sources = IPv4Address("10.0.0.2"), IPv4Address("10.0.1.1")
    talk = Conversation({"source": sources[0]}, {"source": sources[1]}, sealed=sealed)
    talk.inject(Partition(frozenset({0})))
    talk.start()
    talk.until(3.5)
    talk.inject(Heal())
    talk.until(5.5)
    return talk


def tie_lower_address() -> Conversation:
    """Two masters of equal interval, both of our kind: the lower address stays, a (10.0.0.2) before b (10.0.1.1)."""
    return _two_masters(sealed=True)


def tie_ucarp() -> Conversation:
    """The same where a may be ucarp, in whose order the last octet counts most: b (10.0.1.1) stays, a yields."""
    return _two_masters(sealed=False)


def partition_and_heal() -> Conversation:
    """The master is cut off, another stands up; when they hear each other again the slower one yields.

    The one that stays announces once more, after the other has let go.
    """
    talk = Conversation({}, {"advskew": 50}, {"advskew": 100})
    talk.start()
    talk.until(4.1)
    talk.inject(Partition(frozenset({0})))
    talk.until(8.1)
    talk.inject(Heal())
    talk.until(10.5)
    return talk


def bind_refused() -> Conversation:
    """The kernel refuses the addresses: the node releases what it has, says goodbye and listens for a full timer."""
    talk = Conversation({}, {"advskew": 100})
    talk.start()
    talk.until(2.9)
    talk.inject(Refuse(0, 1))
    talk.until(5.0)
    return talk


def occupied() -> Conversation:
    """A stranger answers for the VIP while the first node starts: it waits until nobody does any more.

    Who has heard a member of the group is not held back by it: the second one takes over from the first at its time.
    """
    talk = Conversation({}, {"advskew": 100})
    talk.start(0)
    for second in range(5):
        talk.until(second + 0.001)
        talk.inject(Occupy(0, 2.5))
    talk.until(7.0)
    talk.start(1)
    talk.until(8.1)
    talk.inject(Crash(0))
    talk.until(10.0)
    talk.inject(Occupy(1, 2.5))
    talk.until(12.5)
    return talk


def vip_deleted() -> Conversation:
    """Somebody deletes the master's VIP by hand: it is back at once, with an advert as always, and announced anew."""
    talk = Conversation({}, {"advskew": 100})
    talk.start()
    talk.until(4.5)
    talk.inject(Disturb(0))
    talk.until(6.0)
    return talk


def lease_unanswered() -> Conversation:
    """The parent no longer answers: without a renewal confirmed for as long as a lease lasts, the master steps down."""
    talk = Conversation({}, {"advskew": 100})
    talk.start()
    talk.until(4.1)
    talk.inject(ParentPause(0, 5.0))
    talk.until(10.5)
    return talk


def woke_late() -> Conversation:
    """The master's process does not run for longer than peers wait: on waking it finds itself deposed, and listens."""
    talk = Conversation({}, {"advskew": 100})
    talk.start()
    talk.until(4.1)
    talk.inject(Pause(0, 5.0))
    talk.until(10.5)
    return talk


def backup_woke_late() -> Conversation:
    """A backup that slept past its timer has not listened: the master gets one more interval to be heard."""
    talk = Conversation({}, {"advskew": 100})
    talk.start()
    talk.until(4.1)
    talk.inject(Pause(1, 5.0))
    talk.until(10.5)
    return talk


def link_down_and_up() -> Conversation:
    """Without its carrier a master lets go at once; with the carrier back it listens for a full timer."""
    talk = Conversation({}, {"advskew": 100})
    talk.start()
    talk.until(4.1)
    talk.inject(Link(0, up=False))
    talk.until(8.0)
    talk.inject(Link(0, up=True))
    talk.until(9.5)
    return talk


def startup_delay() -> Conversation:
    """For five seconds after its start a is master for no reason, though nobody else is."""
    talk = Conversation({"startup_delay": 5.0})
    talk.start()
    talk.until(6.5)
    return talk


def demotion_and_promotion() -> Conversation:
    """A demoted master says so at once; the backups stand up in turn, and it lets go when it hears the first of them.

    Given back, it is the fastest again, but without preempt it stays where it is.
    """
    talk = Conversation({}, {"advskew": 50}, {"advskew": 100})
    talk.start()
    talk.until(4.1)
    talk.inject(Demote(0, "maintenance", 240))
    talk.until(5.5)
    talk.inject(Promote(0, "maintenance"))
    talk.until(6.5)
    return talk


def demotion_of_the_last() -> Conversation:
    """A demoted master that is alone stays: demotion never leaves nobody. Given back, the next advert says so."""
    talk = Conversation({})
    talk.start()
    talk.until(3.5)
    talk.inject(Demote(0, "maintenance", 10))
    talk.until(4.8)
    talk.inject(Promote(0, "maintenance"))
    talk.until(6.5)
    return talk


def hand_over() -> Conversation:
    """Asked to hand over, the master says goodbye but answers on until another has stood up."""
    talk = Conversation({}, {"advskew": 50}, {"advskew": 100}, preempt=True)
    talk.start()
    talk.until(4.1)
    talk.inject(HandOver(0))
    talk.until(9.5)
    return talk


def hand_over_to_nobody() -> Conversation:
    """Asked to hand over while nobody else is there, the master goes on."""
    talk = Conversation({})
    talk.start()
    talk.until(3.5)
    talk.inject(HandOver(0))
    talk.until(7.5)
    return talk


def deaf_in_one_family() -> Conversation:
    """Over both families, of which IPv6 falls silent: b takes its silence for the master's death and stands up.

    a outranks it over IPv4 and answers at once; b yields, and its IPv6 timer rests until something is heard there.
    """
    sources = [
        {"source": IPv4Address(f"10.0.0.{n}"), "second_source": IPv6Address(f"fe80::{n}"), "advskew": 100 * (n - 1)}
        for n in (1, 2)
    ]
    talk = Conversation(*sources)
    talk.start()
    talk.until(4.1)
    talk.inject(Mute(6))
    talk.until(9.5)
    talk.inject(Heal())
    talk.until(11.5)
    return talk
