"""The parent's side of the agent, with a real agent that is never let run."""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from unittest.mock import Mock

import msgspec
import pytest

from sidecar.agent.aside import FOR
from sidecar.children import Restarts
from sidecar.holdings import Interfaces
from sidecar.ipc.channel import Channel, pair
from sidecar.ipc.messages import (
    GroupRole,
    Health,
    HealthDemotion,
    InterfaceStatus,
    Message,
    NodeSays,
    Probed,
    Released,
    Settings,
    SettingsStatus,
    Snapshot,
    StandAside,
    StartAgent,
    StatusReply,
    StatusRequest,
    Unavailable,
    encode,
)
from sidecar.ipc.plan import MirrorPlan, Plan, ProbeKind, ProbePlan
from sidecar.live.reload import Parts, Reload
from sidecar.live.verdict import Verdict
from sidecar.mirror import ASIDE_AT_MOST, Mirror
from sidecar.reactor import Reactor
from sidecar.supervisor import Supervisor
from tests.fakes.engine import DrivenEngine
from tests.fakes.plans import group_plan, node_plan

PROBES = (
    ProbePlan(name="app", kind=ProbeKind.TCP, target=("127.0.0.1:1",)),
    ProbePlan(name="db", kind=ProbeKind.FILE, target=("/a",), groups=("db",), weight=7),
)


def plan(*, kubernetes: bool = True, **changes: object) -> Plan:
    found = node_plan(group_plan(**changes), kubernetes=kubernetes, runtime_dir="/nonexistent")
    return msgspec.structs.replace(found, health=PROBES)


@pytest.fixture
def questions() -> list[StatusRequest | Health]:
    return []


@pytest.fixture
def mirror(questions: list[StatusRequest | Health]) -> Iterator[Mirror]:
    mirror = Mirror(plan(), Reactor(), Restarts(), questions.append)
    mirror.start()
    yield mirror
    end(mirror)


def end(mirror: Mirror) -> None:
    child = mirror.child
    if child is not None:
        child.kill()
        child.process.wait()
        child.channel.close()
        mirror.ended()


def snapshot(role: str = "master") -> Snapshot:
    return Snapshot(groups=(GroupRole(name="web", role=role, since=0.0, reason="start", transitions=1),))


def test_probes_alone_are_work_for_an_agent() -> None:
    mirror = Mirror(plan(kubernetes=False), Reactor(), Restarts(), [].append)
    mirror.start()
    assert mirror.child is not None
    end(mirror)


def test_with_neither_mirror_nor_listener_nor_probes_there_is_no_agent() -> None:
    mirror = Mirror(node_plan(group_plan(), kubernetes=False), Reactor(), Restarts(), [].append)
    mirror.start()
    mirror.show(snapshot())
    mirror.stop()
    assert mirror.child is None


def test_one_that_does_not_read_is_ended_and_the_next_begins_with_the_newest_roles(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    assert mirror.child is not None
    first = mirror.child.process
    os.kill(first.pid, signal.SIGSTOP)
    while not caplog.messages:
        mirror.show(snapshot())
    assert caplog.messages == ["the agent does not read; it is started anew"]
    assert first.wait() == -signal.SIGKILL
    end(mirror)
    mirror.show(snapshot("backup"))
    assert mirror.child is None
    mirror.start()
    assert mirror.child is not None
    assert mirror.child.process.pid != first.pid


class Questioner:
    """An agent of a few lines, at the other end of the channel."""

    def __init__(self, mirror: Mirror) -> None:
        assert mirror.child is not None
        mirror.child.channel.close()
        mirror.child.channel, theirs = pair()
        self.channel = Channel(theirs)
        self.mirror = mirror

    def says(self, *messages: Message) -> None:
        for message in messages:
            self.channel.send(message)
            self.mirror._speaks()

    def hears(self) -> Message | None:
        received = self.channel.receive()
        return None if received is None else received[0]


@pytest.fixture
def agent(mirror: Mirror) -> Iterator[Questioner]:
    questioner = Questioner(mirror)
    yield questioner
    questioner.channel.close()


def test_a_question_goes_to_the_engine_and_its_answer_back(
    mirror: Mirror, agent: Questioner, questions: list[StatusRequest]
) -> None:
    agent.says(StatusRequest(token=3, first=7))
    assert questions == [StatusRequest(token=3, first=7)]
    answer = StatusReply(token=3, node="n", groups=(), interfaces=())
    mirror.answer(answer)
    assert agent.hears() == answer


def test_the_engine_has_one_question_at_a_time_however_many_are_put(
    mirror: Mirror, agent: Questioner, questions: list[StatusRequest]
) -> None:
    agent.says(*(StatusRequest(token=number) for number in range(1, 50)))
    assert questions == [StatusRequest(token=1)]
    mirror.answer(Unavailable(why="x"))
    agent.says(StatusRequest(token=50))
    assert questions[1:] == [StatusRequest(token=50)]


def test_an_answer_that_is_too_long_is_one_in_words(mirror: Mirror, agent: Questioner) -> None:
    link = InterfaceStatus(name="x" * 2_000_000, up=True, drops={})
    mirror.answer(StatusReply(token=1, node="n", groups=(), interfaces=(link,)))
    answer = agent.hears()
    assert isinstance(answer, Unavailable)
    assert answer.why.startswith("StatusReply takes 2000")


def test_what_is_not_for_the_parent_is_logged_and_its_descriptors_are_closed(
    mirror: Mirror, agent: Questioner, questions: list[StatusRequest | Health], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = os.pipe()
    agent.says(Released(group="web"))
    agent.channel.send(StatusRequest(token=1), [writer])
    os.close(writer)
    mirror._speaks()
    assert caplog.messages == [
        "the agent sent a Released, which is not for the parent",
        "the agent sent a StatusRequest, which is not for the parent",
    ]
    assert questions == []
    assert os.read(reader, 1) == b""  # nobody holds the other end
    os.close(reader)


# Other settings ------------------------------------------------------------------------------------------------------


def test_an_agent_to_which_the_change_is_news_is_ended_for_the_next_one_to_begin(mirror: Mirror) -> None:
    assert mirror.child is not None
    mirror.change(plan(advskew=100))
    assert mirror.child.process.poll() is None  # nothing that it shows
    mirror.change(plan(vhid=44))
    assert mirror.child.process.wait() == -signal.SIGKILL
    mirror.child.channel.close()
    assert mirror.ended()
    assert not mirror.ended()


@pytest.mark.parametrize(
    "shown", [{"target_selector": "app=web"}, {"endpoint_slice": "web"}, {"load_balancer_class": "example.org/vip"}]
)
def test_groups_that_are_only_shown_elsewhere_have_their_roles_at_once(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, shown: dict[str, str]
) -> None:
    """The engine goes on with such a group and tells nothing of it, so the roles have to be known here."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far, DrivenEngine() as engine:
        near.setblocking(False)
        engine.open(near)
        parts = Parts(elector=_Elector(engine), holdings=_Holdings(), commands=Mock(), mirror=mirror)  # type: ignore[arg-type]
        reload = Reload(plan(), None, Reactor(), parts)

        def told() -> list[Snapshot]:
            return [message for message in engine.said() if isinstance(message, Snapshot)]

        engine.start(group_plan())
        (first,) = told()
        mirror.show(first)
        reload._judged(Verdict(plan=plan(mirror=MirrorPlan(**shown)), files={}, lines=()))
        engine.pass_time(1.0)
        assert told() == []
    start, messages = begun(mirror, monkeypatch)
    assert start.groups[0].mirror == MirrorPlan(**shown)
    assert first in messages


class _Elector:
    """Tells the engine what the parent says."""

    ready = True

    def __init__(self, engine: DrivenEngine) -> None:
        self._engine = engine

    def tell(self, message: Message) -> None:
        self._engine.tell(message)


class _Holdings:
    """Of a parent whose interfaces stay as they are."""

    def __init__(self) -> None:
        self.leases = Mock(**{"holds.return_value": False, "lasts.return_value": 2.5})

    def prepare(self, groups: object) -> None:
        pass

    def change(self, groups: object, *, ended: object) -> Interfaces:  # noqa: ARG002 - as the real one
        return Interfaces(opened=(), closed=())

    def introductions(self, names: object) -> list[object]:  # noqa: ARG002 - as the real one
        return []


def test_groups_that_are_elected_anew_wait_for_their_roles(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.show(snapshot())
    mirror.change(plan(vhid=44))
    assert begun(mirror, monkeypatch)[1] == []


def test_where_there_was_nothing_to_do_and_now_is_an_agent_begins() -> None:
    mirror = Mirror(node_plan(group_plan(), kubernetes=False), Reactor(), Restarts(), [].append)
    mirror.start()
    mirror.change(node_plan(group_plan(), kubernetes=False, http_listen="127.0.0.1:1"))
    assert mirror.child is not None
    end(mirror)


def test_roles_of_other_groups_than_those_of_the_plan_are_not_shown(mirror: Mirror, agent: Questioner) -> None:
    mirror.show(Snapshot(groups=()))
    assert agent.hears() is None
    mirror.show(snapshot())
    assert agent.hears() == snapshot()


# What the settings have let go of ------------------------------------------------------------------------------------


def begun(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> tuple[StartAgent, list[Message]]:
    """End the agent; return what the next one begins with, and what it is told then."""
    end(mirror)
    told: list[Message] = []
    monkeypatch.setattr(Channel, "send", lambda _, message: told.append(message))
    mirror.start()
    start = told.pop(0)
    assert isinstance(start, StartAgent)
    return start, told


def test_the_next_agent_is_told_how_groups_were_shown_that_are_shown_otherwise_now(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.change(plan(advskew=100))
    mirror.change(plan(vhid=44))
    mirror.change(plan(vhid=45))
    mirror.change(plan(vhid=44))
    start, _ = begun(mirror, monkeypatch)
    assert [each.group.vhid for each in start.former] == [42, 45]
    assert {(each.role_label, each.several, each.lease) for each in start.former} == {("carp-role", False, False)}
    assert [group.vhid for group in start.groups] == [44]
    assert begun(mirror, monkeypatch)[0] == start, "as is every later one"


def test_a_mirror_that_is_switched_off_has_an_agent_that_shows_nothing(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    on = plan().kubernetes
    mirror.show(snapshot())
    mirror.change(msgspec.structs.replace(plan(kubernetes=False), health=()))
    start, told = begun(mirror, monkeypatch)
    mirror.show(snapshot())
    assert told == []
    assert (start.kubernetes, start.groups) == (on, ())
    assert [each.group.name for each in start.former] == ["web"]


def large(vhid: int, vips: int) -> Plan:
    return plan(vhid=vhid, vips=tuple(f"fd00::{number:x}/128" for number in range(vips)))


def test_what_is_only_to_be_taken_away_is_forgotten_where_it_does_not_fit(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for vhid in (1, 2, 3, 4):
        mirror.change(large(vhid, 20_000))
    end(mirror)
    told: list[Message] = []
    monkeypatch.setattr(Channel, "send", lambda _, message: (encode(message), told.append(message)))
    for _ in range(2):
        mirror.start()
        start = told.pop(0)
        assert isinstance(start, StartAgent)
        assert [each.group.vhid for each in start.former] == [2, 3]
        end(mirror)
    assert caplog.messages == [
        "too much has changed: what Kubernetes shows of 2 former groups stays until somebody takes it away"
    ]


def test_more_than_fits_at_all_is_said_and_ends_nobody_but_the_agent(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    end(mirror)
    mirror.change(large(1, 100_000))
    assert mirror.child is not None
    assert mirror.child.process.wait() == -signal.SIGKILL
    (line,) = caplog.messages
    assert line.startswith("the agent cannot be told what to show: StartAgent takes ")
    assert line.endswith("; name fewer groups, VIPs or probes")


def test_one_that_never_was_on_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(plan(kubernetes=False), Reactor(), Restarts(), [].append)
    mirror.start()
    mirror.change(plan(kubernetes=False, vhid=44))
    start, _ = begun(mirror, monkeypatch)
    assert (start.kubernetes, start.groups, start.former) == (None, (), ())
    end(mirror)


def test_the_agent_is_told_what_became_of_newer_settings_as_is_the_next_one(
    mirror: Mirror, agent: Questioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = SettingsStatus(generation=1, applied_at=1.0, refused_since=2.0, errors=("vhid: wrong",))
    mirror.settings(refused)
    assert agent.hears() == Settings(status=refused)
    assert begun(mirror, monkeypatch)[1] == [Settings(status=refused)]


# Health --------------------------------------------------------------------------------------------------------------


APP = HealthDemotion(name="health:app", weight=240, detail="it answered 503")
DB = HealthDemotion(name="health:db", weight=7, detail="/a is not there", groups=("db",))


def test_the_engine_is_told_of_what_fails_by_the_settings_weight_and_only_of_changes(
    mirror: Mirror, agent: Questioner, questions: list[StatusRequest | Health]
) -> None:
    assert mirror.health() == Health()
    agent.says(Probed(failing={}))
    assert questions == [], "nothing was wrong before, either"
    agent.says(Probed(failing={1: "/a is not there"}), Probed(failing={1: "/a is not there"}))
    assert questions == [Health(demotions=(DB,))]
    agent.says(Probed(failing={0: "it answered 503", 1: "/a is not there"}), Probed(failing={}))
    assert questions[1:] == [Health(demotions=(APP, DB)), Health()]


def test_a_dead_agent_leaves_behind_what_it_said_and_its_successor_begins_with_that(
    mirror: Mirror, agent: Questioner, questions: list[StatusRequest | Health], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.says(Probed(failing={0: "it answered 503"}))
    end(mirror)
    assert mirror.health() == Health(demotions=(APP,))
    assert questions == [Health(demotions=(APP,))]
    told: list[Message] = []
    monkeypatch.setattr(Channel, "send", lambda _, message: told.append(message))
    mirror.start()
    (start,) = told
    assert isinstance(start, StartAgent)
    assert (start.health, start.failing) == (PROBES, {0: "it answered 503"})
    assert start.pod == "default/pod"


def test_an_agent_that_nobody_has_preceded_knows_so(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    end(mirror)
    told: list[Message] = []
    monkeypatch.setattr(Channel, "send", lambda _, message: told.append(message))
    mirror.start()
    assert [message.failing for message in told if isinstance(message, StartAgent)] == [None]


def test_an_agent_beside_itself_can_demote_only_by_what_the_settings_name(
    agent: Questioner, questions: list[StatusRequest | Health]
) -> None:
    agent.says(Probed(failing={7: "no such probe", -1: "nor this"}))
    assert questions == []
    agent.says(Probed(failing={0: "two\nlines " + "x" * 900}))
    (health,) = questions
    assert isinstance(health, Health)
    (demotion,) = health.demotions
    assert demotion.weight == 240
    assert demotion.detail == ("two lines " + "x" * 900)[:200]


def test_with_other_probes_what_was_found_stands_for_those_that_are_still_there(
    mirror: Mirror, agent: Questioner, questions: list[StatusRequest | Health]
) -> None:
    agent.says(Probed(failing={0: "it answered 503", 1: "/a is not there"}))
    new = ProbePlan(name="new", kind=ProbeKind.GATEWAY, target=("eth0",))
    mirror.change(msgspec.structs.replace(plan(), health=(new, PROBES[1])))
    assert questions[1:] == [Health(demotions=(DB,))]
    agent.says(Probed(failing={0: "it answered 503"}))  # the last word of the old agent, whose numbers are others
    assert mirror.health() == Health(demotions=(DB,))
    assert mirror.child is not None
    assert mirror.child.process.wait() == -signal.SIGKILL


def test_without_probes_nothing_is_demoted_by_any(
    mirror: Mirror, agent: Questioner, questions: list[StatusRequest | Health]
) -> None:
    agent.says(Probed(failing={0: "it answered 503"}))
    mirror.change(msgspec.structs.replace(plan(), health=()))
    assert questions[1:] == [Health()]


WORD = "node-a-old: carp-role"
ASIDE = HealthDemotion(name="stand-aside", weight=239, detail="a rollout goes on", groups=("web",), as_backup=True)


def aside(*groups: str, word: str = WORD) -> StandAside:
    return StandAside(groups=groups, word=word)


def test_standing_aside_demotes_in_those_groups_that_there_are_and_without_kubernetes_in_none(
    mirror: Mirror, agent: Questioner, questions: list[StatusRequest | Health]
) -> None:
    agent.says(aside(word=""), aside("stranger"))
    assert questions == []
    agent.says(aside("web", "stranger"), aside("web"))
    assert questions == [Health(demotions=(ASIDE,))]
    agent.says(aside())
    assert questions[1:] == [Health()]
    agent.says(aside("web"))
    mirror.change(plan(kubernetes=False))
    assert questions[2:] == [Health(demotions=(ASIDE,)), Health()]


def test_standing_aside_is_over_by_itself_where_the_agent_that_should_end_it_is_dead_or_hangs(
    mirror: Mirror, agent: Questioner, questions: list[StatusRequest | Health]
) -> None:
    assert mirror.next() == math.inf
    agent.says(aside("web"))
    over = mirror.next()
    assert over > FOR + time.monotonic(), "the agent ends it first, if it can"
    end(mirror)
    mirror.tick(over - 0.1)
    assert mirror.next() == over
    assert questions == [Health(demotions=(ASIDE,))]
    mirror.tick(over)
    mirror.tick(over + 1.0)
    assert questions[1:] == [Health()]
    assert mirror.next() == math.inf


def test_agents_that_hear_the_same_word_anew_make_it_last_no_longer(
    mirror: Mirror, questions: list[StatusRequest | Health]
) -> None:
    mirror._stands_aside(aside("web"), 1000.0)
    for late in range(10, 1000, 10):
        mirror._stands_aside(aside("web"), 1000.0 + late)
        mirror.tick(1000.0 + late)
        assert (mirror.health() == Health()) is (late >= ASIDE_AT_MOST)
    assert questions == [Health(demotions=(ASIDE,)), Health()]


def test_another_word_has_its_own_time_as_has_the_same_one_that_was_taken_off_meanwhile(mirror: Mirror) -> None:
    mirror._stands_aside(aside("web"), 1000.0)
    mirror._stands_aside(aside("web", word="node-b-old: carp-role"), 1060.0)
    assert mirror.next() == 1060.0 + ASIDE_AT_MOST
    mirror._stands_aside(aside(word=""), 1500.0)
    mirror._stands_aside(aside("web", word="node-b-old: carp-role"), 1501.0)
    assert mirror.next() == 1501.0 + ASIDE_AT_MOST


def test_the_parent_wakes_for_the_end_of_standing_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor(plan())
    waited: list[float | None] = []
    monkeypatch.setattr(Reactor, "turn", lambda _, seconds: waited.append(seconds))
    supervisor._elector.ready = True
    supervisor._mirror._stands_aside(aside("web"), time.monotonic() - ASIDE_AT_MOST)
    assert supervisor._mirror.health() != Health()
    supervisor._turn()
    assert waited == [0.0]
    assert supervisor._mirror.health() == Health()


# The node's object ---------------------------------------------------------------------------------------------------


def with_node(**features: bool) -> Plan:
    found = plan()
    assert found.kubernetes is not None
    return msgspec.structs.replace(found, kubernetes=msgspec.structs.replace(found.kubernetes, **features))


def test_what_the_node_says_is_passed_on_when_it_changes_and_outlives_its_agent(
    mirror: Mirror, agent: Questioner, questions: list[object]
) -> None:
    agent.says(NodeSays(maintenance="disks"))
    assert questions == [], "nobody asked for it"
    mirror.change(with_node(node_annotations=True))
    assert questions == [NodeSays(maintenance="disks")]
    agent.says(NodeSays(maintenance="disks", cordoned=True), NodeSays(maintenance="disks", advskew=7))
    assert questions[1:] == [NodeSays(maintenance="disks", advskew=7)]
    end(mirror)
    assert mirror.word() == NodeSays(maintenance="disks", advskew=7)
    mirror.change(with_node(cordon=True))
    assert questions[2:] == [NodeSays()], "a feature that is turned off gives back what it took"
