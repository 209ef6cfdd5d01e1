"""Events: what happened and why, on the pod and on the node, and never many."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from sidecar.agent.desired import Pod
from sidecar.agent.errors import ApiError
from sidecar.agent.events import NOTE_AT_MOST, OLD_NEWS, WAITING_AT_MOST, Events, News, news_of, settings_news
from sidecar.ipc.messages import GroupRole, MirroredGroup, SettingsStatus, Snapshot
from tests.fakes.objects import Objects, context
from tests.fakes.time import run

POD = Pod(name="a", uid="uid-a", resource_version="1", labels={}, annotations={})
GROUP = MirroredGroup(name="web", interface="eth0", vhid=42, vips=("10.0.0.200/32",))


def role(kind: str, *, since: float = 1000.0, reason: str = "master-down", detail: str = "why") -> GroupRole:
    return GroupRole(name="web", role=kind, since=since, reason=reason, transitions=int(since), detail=detail)


def events_of(found: Objects) -> dict[tuple[str, str], dict[str, object]]:
    return {(each["involvedObject"]["kind"], each["reason"]): each for each in found.found.values()}


def test_a_takeover_is_told_with_its_reason() -> None:
    detail = "no advert from 10.0.0.11 for 3.000 s"
    taken = news_of(None, role("master", detail=detail), GROUP)
    assert taken is not None
    assert (taken.reason, taken.note) == ("TookVIP", f"took the VIP 10.0.0.200: {detail}")
    lost = news_of(role("master"), role("backup", reason="woke-late", detail=""), GROUP)
    assert lost is not None
    assert (lost.reason, lost.note, lost.warning) == ("GaveUpVIP", "gave up the VIP 10.0.0.200: woke-late", True)
    assert news_of(role("init"), role("backup"), GROUP) is None
    assert news_of(None, role("backup"), GROUP) is None


def test_on_the_pod_and_on_the_node_and_as_one_that_happens_again() -> None:
    async def story() -> None:
        found, shared = Objects(), context()
        events = Events(found, shared)  # type: ignore[arg-type]
        task = asyncio.create_task(events.run())
        events.offer(Snapshot(groups=(role("master"),)))
        await asyncio.sleep(1)
        assert set(events_of(found)) == {("Node", "TookVIP")}  # of the pod nobody knows the uid yet
        events.identify(POD)
        await asyncio.sleep(1)
        pod = events_of(found)["Pod", "TookVIP"]
        assert pod["involvedObject"] == {
            "kind": "Pod",
            "apiVersion": "v1",
            "name": "a",
            "uid": "uid-a",
            "namespace": "edge",
        }
        events.offer(Snapshot(groups=(role("master"),)))  # the same again is no news
        for number in range(10):
            events.offer(Snapshot(groups=(role("backup", since=1001.0 + number),)))
            events.offer(Snapshot(groups=(role("master", since=1001.5 + number, detail=f"no {number}"),)))
        await asyncio.sleep(60)
        pod = events_of(found)["Pod", "TookVIP"]
        assert (pod["count"], pod["message"]) == (11, "took the VIPs 10.0.0.200, fd00::200: no 9")
        assert (pod["firstTimestamp"], pod["lastTimestamp"]) == ("1970-01-01T00:16:40Z", "1970-01-01T00:16:50Z")
        assert len(found.found) == 4
        assert len(found.writes) == 6
        task.cancel()

    run(story())


def test_a_network_that_flaps_for_ever_costs_a_request_a_second_at_most() -> None:
    async def story() -> None:
        found, shared = Objects(), context()
        events = Events(found, shared)  # type: ignore[arg-type]
        events.identify(POD)
        task = asyncio.create_task(events.run())
        for number in range(2000):
            kind = "master" if number % 2 else "backup"
            events.offer(Snapshot(groups=(role(kind, since=1000.0 + number / 20),)))
            await asyncio.sleep(0.05)
        await asyncio.sleep(10)
        assert len(found.writes) <= 122
        assert events_of(found)["Pod", "TookVIP"]["count"] == 1000
        task.cancel()

    run(story())


def test_an_agent_that_starts_anew_tells_nothing_twice() -> None:
    async def story() -> None:
        found = Objects()
        for _ in range(2):
            events = Events(found, context())  # type: ignore[arg-type]
            events.identify(POD)
            task = asyncio.create_task(events.run())
            events.offer(Snapshot(groups=(role("master"),)))
            await asyncio.sleep(1)
            task.cancel()
        assert len(found.found) == 2
        late = dataclasses.replace(context(), wall=lambda: 1000.0 + OLD_NEWS + 1)
        events = Events(Objects(), late)  # type: ignore[arg-type]
        events.offer(Snapshot(groups=(role("master"),)))
        assert not events._events

    run(story())


def test_an_event_that_has_expired_is_made_anew() -> None:
    async def story() -> None:
        found = Objects()
        events = Events(found, context())  # type: ignore[arg-type]
        task = asyncio.create_task(events.run())
        for number in range(2):
            events.tell(News("TookVIP", f"no {number}", "web", 1000.0 + number))
            await asyncio.sleep(1)
            found.found.clear() if not number else None
        assert events_of(found)["Node", "TookVIP"]["message"] == "no 1"
        task.cancel()

    run(story())


@pytest.mark.parametrize("fault", [ApiError("down"), ApiError("no", 403, right="create events")])
def test_an_hour_without_an_api_server_keeps_few_and_tells_them_later(fault: ApiError) -> None:
    async def story() -> None:
        found, shared = Objects(), context()
        events = Events(found, shared)  # type: ignore[arg-type]
        events.identify(POD)
        task = asyncio.create_task(events.run())
        found.failures = [fault] * 100_000
        for number in range(3600):
            events.tell(News(f"Reason{number}", "note", "web", 1000.0 + number))
            await asyncio.sleep(1)
        assert len(events._events) <= WAITING_AT_MOST
        assert shared.status.events_dropped > 1000
        assert len(found.calls) < 10_000
        found.failures = []
        await events.say_the_last(500)
        assert len(found.found) == WAITING_AT_MOST
        task.cancel()

    run(story())


@pytest.mark.parametrize("refused", [True, False])
def test_on_the_node_it_is_told_in_the_namespace_default_where_that_is_asked_for(refused: bool) -> None:
    fault = ApiError("the right to create events in namespace default is missing (403)", 403, right="create events")

    async def story() -> None:
        found, shared = Objects(), context(node_events=True)
        events = Events(found, shared)  # type: ignore[arg-type]
        events.identify(POD)
        path = "/api/v1/namespaces/default/events"
        if refused:
            found.troubles["create", path] = fault
        task = asyncio.create_task(events.run())
        events.offer(Snapshot(groups=(role("master"),)))
        await asyncio.sleep(100)
        events.offer(Snapshot(groups=(role("backup", since=1001.0),)))
        events.offer(Snapshot(groups=(role("master", since=1002.0),)))
        await asyncio.sleep(1)
        assert events_of(found)["Pod", "TookVIP"]["count"] == 2, "at once, whatever becomes of the node's"
        told = {key: path for path, each in found.found.items() if (key := each["involvedObject"]["kind"])}
        assert told["Pod"].startswith("/api/v1/namespaces/edge/events/")
        assert shared.status.missing_rights == ({"create events"} if refused else set())
        if not refused:
            node = events_of(found)["Node", "TookVIP"]
            assert told["Node"].startswith(f"{path}/")
            assert node["involvedObject"] == {"kind": "Node", "apiVersion": "v1", "name": "node-a", "uid": "node-a"}
            assert (node["count"], node["metadata"]["namespace"]) == (2, "default")
        task.cancel()

    run(story())


# Settings ------------------------------------------------------------------------------------------------------------

SAID = "newer settings are refused, the old ones stay in force: "


def refused(*errors: str, since: float = 1000.0) -> SettingsStatus:
    return SettingsStatus(generation=1, applied_at=0.0, refused_since=since, errors=errors)


def accepted(until: float | None, *, generation: int = 1) -> SettingsStatus:
    return SettingsStatus(generation=generation, applied_at=0.0, refused_until=until)


def test_what_is_refused_is_named_in_a_sentence_that_is_not_too_long() -> None:
    news = settings_news(None, refused("vhid: 300 is out of range"), now=1010.0)
    assert news == News("SettingsRefused", f"{SAID}vhid: 300 is out of range", "settings", 1000.0, warning=True)
    news = settings_news(None, refused("one", "two", "three"), now=1010.0)
    assert news is not None
    assert news.note == f"{SAID}one (and 2 more)"
    news = settings_news(None, refused("x" * 5000), now=1010.0)
    assert news is not None
    assert len(news.note) == NOTE_AT_MOST


def test_only_what_changes_is_told_of_the_settings() -> None:
    first, other = refused("one"), refused("two")
    assert settings_news(first, first, now=1010.0) is None
    again = settings_news(first, other, now=1010.0)
    assert again is not None
    assert (again.note, again.at) == (f"{SAID}two", 1010.0)
    end = settings_news(other, accepted(1020.0), now=1020.0)
    assert end == News("SettingsAccepted", "the settings are good again and in force", "settings", 1020.0)
    assert settings_news(accepted(1020.0), accepted(1020.0, generation=2), now=1030.0) is None
    assert settings_news(None, accepted(None), now=1030.0) is None
    assert settings_news(None, accepted(1020.0), now=1021.0 + OLD_NEWS) is None, "the agent before told it"


def test_a_refusal_and_its_end_are_one_event_each_however_often_the_agent_starts_anew() -> None:
    found = Objects()

    async def agent(*told: SettingsStatus) -> None:
        events = Events(found, context())  # type: ignore[arg-type]
        events.identify(POD)
        task = asyncio.create_task(events.run())
        for status in told:
            events.settings(status)
            await asyncio.sleep(1)
        task.cancel()

    run(agent(accepted(None), refused("one"), refused("one")))
    run(agent(refused("one")))
    assert set(events_of(found)) == {("Pod", "SettingsRefused"), ("Node", "SettingsRefused")}
    assert {each["count"] for each in found.found.values()} == {1}
    assert events_of(found)["Pod", "SettingsRefused"]["type"] == "Warning"
    run(agent(refused("one"), refused("two"), accepted(1000.0)))
    assert len(found.found) == 4
    pod = events_of(found)
    assert (pod["Pod", "SettingsRefused"]["message"], pod["Pod", "SettingsRefused"]["count"]) == (f"{SAID}two", 2)
    assert pod["Pod", "SettingsAccepted"]["type"] == "Normal"
