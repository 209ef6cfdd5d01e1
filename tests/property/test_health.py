"""Whatever the probes say and whoever dies meanwhile: demotion balances, and nobody is demoted who did not fall."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.agent.health import Health, Ill, Result, Unknown, Verdict, Well
from sidecar.engine.standing import changes
from sidecar.ipc.messages import Health as Told
from sidecar.ipc.messages import HealthDemotion
from sidecar.ipc.plan import ProbeKind, ProbePlan
from sidecar.protocol.demotion import Demotions
from sidecar.protocol.events import Demote

counts = st.integers(1, 4)
results = st.sampled_from([Well(), Ill("failed"), Unknown()])
GROUPS = ("web", "db", "mail")


@given(counts, counts, st.lists(results, max_size=40))
def test_a_verdict_is_what_the_last_run_of_results_says(rise: int, fall: int, course: list[Result]) -> None:
    verdict = Verdict(rise=rise, fall=fall)
    known: list[bool] = []
    failing = False
    for result in course:
        verdict.heard(result, about="it")
        if not isinstance(result, Unknown):
            known.append(isinstance(result, Well))
            if len(known) == 1:
                failing = not known[0]
            elif known[-fall:] == [False] * fall:
                failing = True
            elif known[-rise:] == [True] * rise:
                failing = False
        assert (verdict.failing is not None) == failing


@given(counts, st.integers(2, 4), st.lists(st.integers(0, 3), max_size=20))
def test_flapping_below_fall_never_demotes(rise: int, fall: int, failures: list[int]) -> None:
    verdict = Verdict(rise=rise, fall=fall)
    verdict.heard(Well(), about="it")
    for count in failures:
        for _ in range(min(count, fall - 1)):
            verdict.heard(Ill("failed"), about="it")
            assert verdict.failing is None
        verdict.heard(Well(), about="it")


@given(st.lists(st.tuples(st.integers(0, 2), results | st.just("the agent dies")), max_size=60), counts, counts)
def test_whoever_dies_when_the_parent_knows_what_stands_and_no_death_changes_it(
    course: list[tuple[int, Result | str]], rise: int, fall: int
) -> None:
    probes = [
        ProbePlan(name=f"p{number}", kind=ProbeKind.TCP, target=("it",), rise=rise, fall=fall) for number in range(3)
    ]
    parent: dict[int, str] | None = None
    agent = Health(probes, parent)
    for number, event in course:
        if isinstance(event, str):
            before = parent
            agent = Health(probes, parent)
            assert agent.failing() == (before or {})
            assert agent.news() is None
            continue
        agent.heard(number, event)
        if (news := agent.news()) is not None:
            parent = news
            agent.told(news)
        assert agent.failing() == (parent or {})


demotions = st.builds(
    HealthDemotion,
    name=st.sampled_from(["health:a", "health:b"]),
    weight=st.integers(1, 255),
    detail=st.sampled_from(["one", "two"]),
    groups=st.sampled_from([(), ("web",), ("web", "db"), ("mail",)]),
)
states = st.lists(demotions, max_size=3, unique_by=lambda each: each.name).map(lambda all_: Told(demotions=tuple(all_)))


@given(st.lists(states, max_size=8))
def test_each_group_is_demoted_by_what_stands_for_it_and_in_the_end_by_nothing(course: list[Told]) -> None:
    ledgers = {group: Demotions() for group in GROUPS}
    before = Told()
    for told in [*course, Told()]:
        for group, ledger in ledgers.items():
            for event in changes(before, told, group):
                if isinstance(event, Demote):
                    ledger.take(event.name, weight=event.weight, detail=event.detail)
                else:
                    ledger.give_back(event.name)
            wanted = [each for each in told.demotions if not each.groups or group in each.groups]
            assert ledger.on_wire == min(255, sum(each.weight for each in wanted))
            assert [(each.name, each.detail) for each in ledger.standing()] == sorted(
                (each.name, each.detail) for each in wanted
            )
            assert changes(told, told, group) == []
        before = told
    assert all(ledger.on_wire == 0 for ledger in ledgers.values())
