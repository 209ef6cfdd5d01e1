"""Results of probes, and what they come to."""

from __future__ import annotations

import pytest

from sidecar.agent.health import Health, Ill, Result, Unknown, Verdict, Well, called
from sidecar.ipc.plan import ProbeKind, ProbePlan

WELL, ILL, UNKNOWN = Well(), Ill("answered 503"), Unknown()
SIGNS: dict[str, Result] = {"+": WELL, "-": ILL, "?": UNKNOWN}


def probe(kind: ProbeKind = ProbeKind.TCP, *target: str, name: str = "app", rise: int = 2, fall: int = 3) -> ProbePlan:
    return ProbePlan(name=name, kind=kind, target=target or ("it",), rise=rise, fall=fall)


def course(results: str, verdict: Verdict) -> str:
    """Feed results and tell after each whether it failed (x) or not (.)."""
    told = ""
    for sign in results:
        verdict.heard(SIGNS[sign], about="it")
        told += "x" if verdict.failing else "."
    return told


@pytest.mark.parametrize(
    ("results", "told"),
    [
        ("+---", "...x"),  # three failures in a row
        ("+--+--+--", "........."),  # never three in a row
        ("---", "xxx"),  # the first result decides alone
        ("-+", "xx"),
        ("-++", "xx."),  # two successes in a row
        ("-+-+-++", "xxxxxx."),
        ("???", "..."),  # nothing is known
        ("??-", "..x"),
        ("??+--", "....."),
        ("+--?-", "....x"),  # what could not be found out neither counts nor begins the count anew
        ("-+?+", "xxx."),
    ],
)
def test_rise_and_fall(results: str, told: str) -> None:
    assert course(results, Verdict(rise=2, fall=3)) == told


def test_one_failure_and_one_success_where_that_is_wanted() -> None:
    assert course("+-+-", Verdict(rise=1, fall=1)) == ".x.x"


@pytest.mark.parametrize(
    ("failing", "results", "told"),
    [(None, "--", ".."), (None, "---", "..x"), ("it failed", "+", "x"), ("it failed", "++", "x.")],
)
def test_what_an_earlier_agent_found_stands_until_its_successor_finds_something_else(
    failing: str | None, results: str, told: str
) -> None:
    assert course(results, Verdict(rise=2, fall=3, known=True, failing=failing)) == told


def test_the_reason_in_words() -> None:
    at_once, later = Verdict(rise=2, fall=3), Verdict(rise=2, fall=3)
    at_once.heard(ILL, about="http://[::1]/")
    assert at_once.failing == "http://[::1]/ answered 503"
    for result in (WELL, Ill("answered 404"), ILL, ILL):
        later.heard(result, about="it")
    assert later.failing == "it answered 503, 3 times in a row"
    later.heard(Ill("answered 500"), about="it")
    assert later.failing == "it answered 503, 3 times in a row", "the reason is that of the fall"


def test_only_a_change_is_one() -> None:
    verdict = Verdict(rise=2, fall=2)
    assert [verdict.heard(SIGNS[sign], about="it") for sign in "?++--+-++"] == [
        *(False, True, False, False, True, False, False, False, True),
    ]


def test_news_is_what_the_parent_has_not_been_told() -> None:
    health = Health([probe(rise=1, fall=2), probe(name="other", fall=1)], None)
    assert health.news() is None, "nothing is known"
    health.heard(0, UNKNOWN)
    assert health.news() is None
    health.heard(0, WELL)
    assert health.news() == {}, "a successor need not begin anew"
    health.told({})
    assert health.news() is None
    health.heard(1, ILL)
    assert health.news() == {1: "it answered 503"}
    health.heard(0, ILL)
    assert health.news() == {1: "it answered 503"}, "it is told again until it was"
    health.told({1: "it answered 503"})
    health.heard(0, ILL)
    assert health.news() == {0: "it answered 503, 2 times in a row", 1: "it answered 503"}
    health.heard(0, WELL)
    assert health.news() is None, "as it was told"


def test_a_successor_has_news_only_if_something_has_changed() -> None:
    health = Health([probe(), probe(name="other")], {1: "it failed"})
    health.heard(0, WELL)
    health.heard(1, ILL)
    assert health.news() is None
    health.heard(1, WELL)
    health.heard(1, WELL)
    assert health.news() == {}


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (probe(ProbeKind.HTTP, "http://127.0.0.1/"), "http://127.0.0.1/"),
        (probe(ProbeKind.TCP, "127.0.0.1:1"), "127.0.0.1:1"),
        (probe(ProbeKind.EXEC, "/bin/check", "--token=hunter2"), "/bin/check"),
        (probe(ProbeKind.FILE, "/run/ready"), "/run/ready"),
        (probe(ProbeKind.CONTAINER, "app"), "container app"),
        (probe(ProbeKind.NODE_CONDITION, "Ready=True"), "the node's condition Ready"),
        (probe(ProbeKind.GATEWAY, "eth0"), "the default gateway of eth0"),
    ],
)
def test_what_is_asked_in_words(asked: ProbePlan, name: str) -> None:
    assert called(asked) == name
