"""The comparisons of an election: who takes over from whom, and who yields."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from sidecar.protocol.election import Candidate, cause_to_take_over, outranks, ranks_before
from sidecar.protocol.events import AdvertReceived
from sidecar.protocol.types import Reason

PEER = ip_address("10.0.0.9")


def advert(interval: float, demotion: int = 0) -> AdvertReceived:
    advbase = int(interval)
    return AdvertReceived(source=PEER, advbase=advbase, advskew=int((interval - advbase) * 256), demotion=demotion)


@pytest.mark.parametrize(
    ("theirs", "ours", "preempts", "patience", "reason"),
    [
        (advert(1.5), Candidate(interval=1.0, demotion=0), True, 3.0, Reason.PREEMPT),
        (advert(1.5), Candidate(interval=1.0, demotion=0), False, 3.0, None),
        (advert(1.0), Candidate(interval=1.0, demotion=0), True, 3.0, None),
        (advert(1.5), Candidate(interval=1.0, demotion=1), True, 3.0, None),
        (advert(1.5, 1), Candidate(interval=1.0, demotion=1), True, 3.0, Reason.PREEMPT),
        # A demoted master is left in turn, also by those who would preempt: all of them hear the same advert.
        (advert(1.5, 2), Candidate(interval=1.0, demotion=1), True, 3.0, Reason.DEMOTED_MASTER),
        (advert(1.0, 1), Candidate(interval=1.5, demotion=0), False, None, Reason.DEMOTED_MASTER),
        (advert(4.0), Candidate(interval=1.0, demotion=0), False, 3.0, Reason.SLOWER_MASTER),
        (advert(3.0), Candidate(interval=1.0, demotion=0), False, 3.0, None),
        (advert(4.0), Candidate(interval=1.0, demotion=0), False, None, None),
        (advert(4.0), Candidate(interval=1.0, demotion=1), False, 3.0, None),
    ],
)
def test_why_a_backup_need_not_wait(
    theirs: AdvertReceived, ours: Candidate, preempts: bool, patience: float | None, reason: Reason | None
) -> None:
    cause = cause_to_take_over(theirs, ours, preempts=preempts, patience=patience)
    assert (cause and cause[0]) == reason


@pytest.mark.parametrize(
    ("theirs", "ours", "outranked"),
    [
        (advert(1.0), Candidate(interval=1.5, demotion=0), True),
        (advert(1.5), Candidate(interval=1.0, demotion=0), False),
        (advert(1.0), Candidate(interval=1.0, demotion=0), None),
        (advert(1.5, 1), Candidate(interval=1.0, demotion=2), True),
        (advert(1.0, 2), Candidate(interval=1.5, demotion=1), False),
        (advert(1.0, 2), Candidate(interval=1.0, demotion=2), None),
    ],
)
def test_which_of_two_masters_is_better(theirs: AdvertReceived, ours: Candidate, outranked: bool | None) -> None:
    assert outranks(theirs, ours) is outranked


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(("first", "second"), [("10.0.1.1", "10.0.0.2"), ("fe80::1", "fe80::2")])
def test_of_two_addresses_one_ranks_before_the_other(sealed: bool, first: str, second: str) -> None:
    one, other = ip_address(first), ip_address(second)
    assert ranks_before(one, other, sealed=sealed) is not ranks_before(other, one, sealed=sealed)
    assert not ranks_before(one, one, sealed=sealed)
