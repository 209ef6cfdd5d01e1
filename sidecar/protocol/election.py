"""Who should be master: the comparisons of ``carp_proto_input_c`` (OpenBSD ip_carp.c) and ucarp's carp.c."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from sidecar.protocol.events import AdvertReceived
from sidecar.protocol.timing import TICK
from sidecar.protocol.types import IPAddress, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What this node has to offer: its interval in seconds as its adverts say it (0 for 0/0), its demotion 0..255."""

    interval: float
    demotion: int


def claimed_interval(*, advbase: int, advskew: int) -> float:
    """Return what is compared, advbase + advskew/256 s: 0/0 ranks before 0/1, though both send 256 times a second."""
    return advbase + advskew * TICK


def interval_of(advert: AdvertReceived) -> float:
    """Return the seconds between two adverts of their sender, as it says."""
    return claimed_interval(advbase=advert.advbase, advskew=advert.advskew)


def cause_to_take_over(
    advert: AdvertReceived, us: Candidate, *, preempts: bool, patience: float | None
) -> tuple[Reason, str] | None:
    """Return why a backup need not wait for its timer: a reason and a sentence for people.

    ``patience`` is that timer in seconds; None where a slower master is no cause (OpenBSD: where advbase is 0).
    """
    # OpenBSD lets a worse node lose patience too: it would take over and yield for ever.
    if advert.demotion < us.demotion:
        return None
    if advert.demotion > us.demotion:
        return Reason.DEMOTED_MASTER, f"{advert.source} is demoted by {advert.demotion}, this node by {us.demotion}"
    theirs = interval_of(advert)
    if preempts and us.interval < theirs:
        detail = f"{advert.source} advertises every {theirs:.3f} s, this node every {us.interval:.3f} s"
        return Reason.PREEMPT, detail
    if patience is not None and patience < theirs:
        return Reason.SLOWER_MASTER, f"{advert.source} advertises every {theirs:.3f} s, our timer is {patience:.3f} s"
    return None


def outranks(advert: AdvertReceived, us: Candidate) -> bool | None:
    """Tell whether the sender is the better of two masters; None if only their addresses can tell."""
    if advert.demotion != us.demotion:
        return advert.demotion < us.demotion
    theirs = interval_of(advert)
    return None if theirs == us.interval else theirs < us.interval


def ranks_before(theirs: IPAddress, ours: IPAddress, *, sealed: bool) -> bool:
    """Tell whether ``theirs`` stays master where nothing else decides.

    Between our own kind, whose adverts are sealed, it is the lower address. ucarp compares s_addr as the CPU reads it,
    so that on x86 and arm64 the last octet counts most; with one that may be ucarp both sides have to do so.
    """
    if not sealed and isinstance(theirs, IPv4Address) and isinstance(ours, IPv4Address):
        return theirs.packed[::-1] < ours.packed[::-1]
    return int(theirs) < int(ours)
