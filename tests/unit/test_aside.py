"""Standing aside: as a backup, in the groups that are named, for a while."""

from __future__ import annotations

import pytest

from sidecar.agent.aside import ANSWERED, ASKED, FOR, Aside
from sidecar.ipc.messages import StandAside
from sidecar.rollout.plan import Ask
from tests.unit.test_rollout_plan import pod

WORD = Ask(pod("node-a"), ("carp-role-db", "carp-role-web"), (pod("node-b"),), "r-1").word
GROUPS = {"carp-role-web": "web", "carp-role-db": "db", "carp-role-mail": "mail"}


@pytest.fixture
def said() -> list[StandAside]:
    return []


@pytest.fixture
def aside(said: list[StandAside]) -> Aside:
    return Aside(GROUPS, said.append)


def test_what_a_rollout_writes_is_obeyed_in_its_groups_and_answered(aside: Aside, said: list[StandAside]) -> None:
    assert aside.heard(WORD, 5.0)
    assert said == [StandAside(groups=("db", "web"), word=WORD)]
    assert aside.answer(5.0).annotations == {ANSWERED: WORD}
    assert not aside.heard(WORD, 6.0)
    assert said[1:] == [], "said once"
    other = WORD.replace("node-a", "node-b")
    assert aside.heard(other, 7.0)
    assert said[1:] == [StandAside(groups=("db", "web"), word=other)], "the same groups for another time"


def test_it_is_over_by_itself_and_takes_its_traces_away(aside: Aside, said: list[StandAside]) -> None:
    aside.heard(WORD, 10.0)
    aside.heard(WORD, 10.0 + FOR - 0.1)
    assert said == [StandAside(groups=("db", "web"), word=WORD)]
    assert not aside.heard(WORD, 10.0 + FOR)
    assert said[1:] == [StandAside(groups=(), word=WORD)], "which is still written"
    assert aside.answer(10.0 + FOR).annotations == {ASKED: None, ANSWERED: None}
    assert aside.heard("node-c-old: carp-role-web", 500.0), "the next one is another one"
    assert said[2:] == [StandAside(groups=("web",), word="node-c-old: carp-role-web")]
    aside.heard("", 501.0)
    assert said[3:] == [StandAside(groups=(), word="")], "somebody took it away"
    assert aside.answer(501.0).annotations == {ASKED: None, ANSWERED: None}


def test_what_an_earlier_agent_has_obeyed_is_over_for_the_next_one(aside: Aside, said: list[StandAside]) -> None:
    aside.heard(WORD, 0.0, answered=WORD)
    assert said == [StandAside(groups=(), word=WORD)]
    assert aside.answer(0.0).annotations == {ASKED: None, ANSWERED: None}
    aside.heard("", 1.0)
    aside.heard(WORD, 2.0)
    assert said[2:] == [StandAside(groups=("db", "web"), word=WORD)], "it can be asked anew"
    aside.heard(WORD, 3.0, answered=WORD)
    assert aside.answer(3.0).annotations == {ANSWERED: WORD}, "which was its own answer"


def test_what_an_earlier_agent_did_not_come_to_answer_is_news(aside: Aside, said: list[StandAside]) -> None:
    aside.heard(WORD, 0.0, answered="node-b-old: carp-role-db")
    assert said == [StandAside(groups=("db", "web"), word=WORD)]


@pytest.mark.parametrize(
    "text", ["", "x", "carp-role-db", ": ", "a: carp-role-other,,", "a:carp-role-db", "\u2028: \0"]
)
def test_what_names_no_group_of_ours_is_none(aside: Aside, said: list[StandAside], text: str) -> None:
    aside.heard(text, 0.0)
    assert said == [StandAside(groups=(), word=text)], "said at first: the agent before may have said otherwise"
