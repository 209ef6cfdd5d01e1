"""What is remembered of the groups' changes while engines come and go."""

from __future__ import annotations

from sidecar.chronicle import Chronicle
from sidecar.ipc.messages import CHANGES_REMEMBERED, GroupRole, Snapshot


def role(kind: str, transitions: int, *, name: str = "web", since: float = 0.0, reason: str = "start") -> GroupRole:
    return GroupRole(name=name, role=kind, since=since, reason=reason, transitions=transitions, detail="why")


def heard(chronicle: Chronicle, *roles: GroupRole) -> None:
    chronicle.heard(Snapshot(groups=roles))


def lines(chronicle: Chronicle, group: str = "web") -> list[str]:
    return [f"{each.at:g} {each.before} -> {each.after} {each.reason}" for each in chronicle.of(group)]


def test_each_change_is_noted_once_however_often_it_is_told() -> None:
    chronicle = Chronicle()
    heard(chronicle, role("init", 0))
    assert chronicle.of("web") == (), "it waits for its link"
    for _ in range(3):
        heard(chronicle, role("backup", 1, since=1.0))
    heard(chronicle, role("master", 2, since=2.0, reason="master-down"), role("backup", 1, name="db"))
    assert lines(chronicle) == ["1 init -> backup start", "2 backup -> master master-down"]
    assert chronicle.of("web")[0].detail == "why"
    assert lines(chronicle, "db") == ["0 init -> backup start"]
    assert chronicle.of("nobody") == ()


def test_the_death_of_an_engine_is_a_change_as_well_and_the_next_one_goes_on_from_there() -> None:
    chronicle = Chronicle()
    heard(chronicle, role("master", 1, since=1.0), role("init", 0, name="db"))
    chronicle.engine_ended("the engine was ended by SIGKILL", now=5.0)
    chronicle.engine_ended("and died again before it said a word", now=6.0)
    heard(chronicle, role("backup", 1, name="db", since=7.0))  # it tells of one group after the other
    heard(chronicle, role("backup", 1, name="db", since=7.0), role("master", 1, since=7.0, reason="resumed"))
    assert lines(chronicle) == [
        "1 init -> master start",
        "5 master -> init engine-died",
        "7 init -> master resumed",
    ]
    assert chronicle.of("web")[1].detail == "the engine was ended by SIGKILL"
    assert lines(chronicle, "db") == ["7 init -> backup start"]


def test_only_the_last_ones_are_remembered_and_nothing_of_a_group_that_has_ended() -> None:
    chronicle = Chronicle()
    for number in range(1, 100):
        heard(chronicle, role("master" if number % 2 else "backup", number, since=float(number)))
    assert [each.at for each in chronicle.of("web")] == [float(n) for n in range(100 - CHANGES_REMEMBERED, 100)]
    chronicle.forget("web")
    chronicle.forget("web")
    assert chronicle.of("web") == ()


def test_how_far_seals_are_ahead_is_known_until_the_group_ends() -> None:
    chronicle = Chronicle()
    assert chronicle.seal_offset("web") is None
    for offset in (5.0, 1.5, None):
        chronicle.sealed("web", offset)
    chronicle.sealed("db", 7.0)
    chronicle.engine_ended("the engine was ended by SIGKILL", now=9.0)
    assert (chronicle.seal_offset("web"), chronicle.seal_offset("db")) == (1.5, 7.0)
    chronicle.forget("web")
    assert (chronicle.seal_offset("web"), chronicle.seal_offset("db")) == (None, 7.0)
