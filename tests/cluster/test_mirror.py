"""The mirror on a real API server: everything that it shows, the rights that it needs, whatever fails in between."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from sidecar.demo.controlplane import ControlPlane
from sidecar.ipc.messages import FormerGroup, SettingsStatus
from tests.cluster.agents import EVERYTHING, VIP, Api, Node, group, node, running, until
from tests.cluster.clients import Observer, ServiceClient, administrator
from tests.cluster.conftest import ROLE_RULES, rules_of
from tests.fakes.proxy import Fault, Proxy, opened
from tests.fakes.tasks import together

pytestmark = pytest.mark.cluster

FEATURES = tuple(yaml.safe_load(ROLE_RULES.read_text()))
ON = {"readiness_condition": True, "lease_witness": True, "events": True}
PORTS = [{"name": "http", "port": 80, "targetPort": 8080}]


async def create_services(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/services"
    await api.call("POST", path, {"metadata": {"name": "own"}, "spec": {"ports": PORTS}})
    spec = {"type": "LoadBalancer", "loadBalancerClass": "carp-sidecar/vip", "ports": PORTS, "selector": {"a": "b"}}
    await api.call("POST", path, {"metadata": {"name": "balanced"}, "spec": spec})
    other = {**spec, "loadBalancerClass": "somebody/else"}
    await api.call("POST", path, {"metadata": {"name": "foreign"}, "spec": other})


def test_everything_follows_the_master(  # noqa: PLR0915 - one story
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    admin = control_plane.admin
    token = admin.create_account(namespace, "carp", rules=rules_of(*FEATURES))
    kubeconfig = str(admin.write_kubeconfig(tmp_path / "config", token))
    api = Api(admin, namespace)

    async def shows(name: str, ip: str, epoch: int, transitions: int) -> None:
        await until(lambda: api.masters_are(name), f"the label says {name}")
        pod = await api.get(f"v1:pods/{name}")
        assert pod is not None
        (condition,) = [c for c in pod["status"]["conditions"] if c["type"] == "carp-sidecar/master"]
        assert (condition["status"], condition["reason"]) == ("True", "Master")
        assert pod["metadata"]["annotations"]["carp-sidecar/epoch"] == str(epoch)

        async def lease() -> Any:
            found = await api.get("coordination.k8s.io/v1:leases/carp-sidecar-default")
            return found if found and found["spec"]["holderIdentity"] == name else None

        found = await until(lease, "the Lease")
        assert found["spec"]["leaseTransitions"] == transitions
        assert found["metadata"]["annotations"]["carp-sidecar/epoch"] == str(epoch)

        async def slice_() -> Any:
            found = await api.get("discovery.k8s.io/v1:endpointslices/own-carp-ipv4")
            return found if found and found["endpoints"][0]["addresses"] == [ip] else None

        found = await until(slice_, "the EndpointSlice")
        assert len(found["endpoints"]) == 1
        assert [(port["name"], port["port"]) for port in found["ports"]] == [("http", 8080)]
        assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "own"

    async def ingress(service: str) -> Any:
        found = await api.get(f"v1:services/{service}")
        assert found is not None
        return found["status"]["loadBalancer"].get("ingress")

    async def story() -> None:
        await api.create_pod("a", "10.1.0.1")
        await api.create_pod("b", "10.1.0.2")
        await create_services(api)
        a, b = (node(name, namespace, kubeconfig, mirror=EVERYTHING, **ON) for name in "ab")
        async with (
            administrator(admin, tmp_path) as transport,
            together((client := ServiceClient(transport, namespace, "own")).run()),
            running([a, b]),
        ):
            b.is_now("backup", "start")
            a.is_now("master", "master-down", "no advert from 10.0.0.11 for 3.000 s")
            await shows("a", "10.1.0.1", 1, 0)
            assert await until(lambda: ingress("balanced"), "the VIP") == [{"ip": VIP, "ipMode": "VIP"}]
            assert await ingress("foreign") is None
            bad = SettingsStatus(
                generation=1, applied_at=0.0, refused_since=time.time(), errors=("vhid: 300 is too much",)
            )
            a.mirror.settings(bad)
            a.mirror.settings(msgspec.structs.replace(bad, refused_since=None, refused_until=time.time(), errors=()))
            b.is_now("master", "preempt", "this node is preferred")
            a.is_now("backup", "better-master", "10.0.0.12 is preferred")
            await shows("b", "10.1.0.2", 2, 1)
            await until(lambda: client.knows({"10.1.0.2": True}), "so does a client of the Service")
            assert client.views == [{}, {"10.1.0.1": True}, {"10.1.0.2": True}], "never both, and never none between"
            spec = {"type": "LoadBalancer", "loadBalancerClass": "carp-sidecar/vip", "ports": PORTS}
            path = f"/api/v1/namespaces/{namespace}/services"
            await api.call("POST", path, {"metadata": {"name": "later"}, "spec": spec})
            assert await until(lambda: ingress("later"), "one that comes later has it, too")

            async def told() -> dict[tuple[str, str], Any] | None:
                events = (await api.get("v1:events") or {})["items"]
                found = {
                    (e["involvedObject"]["kind"] + "/" + e["involvedObject"]["name"], e["reason"]): e for e in events
                }
                return found if len(found) == 10 else None

            events = await until(told, "the Events")
            assert set(events) == {
                ("Pod/a", "TookVIP"),
                ("Node/node-a", "TookVIP"),
                ("Pod/b", "TookVIP"),
                ("Node/node-b", "TookVIP"),
                ("Pod/a", "GaveUpVIP"),
                ("Node/node-a", "GaveUpVIP"),
                ("Pod/a", "SettingsRefused"),
                ("Node/node-a", "SettingsRefused"),
                ("Pod/a", "SettingsAccepted"),
                ("Node/node-a", "SettingsAccepted"),
            }
            refused = events["Pod/a", "SettingsRefused"]
            assert refused["message"] == "newer settings are refused, the old ones stay in force: vhid: 300 is too much"
            assert (refused["type"], refused["count"]) == ("Warning", 1)
            first = events["Pod/a", "TookVIP"]
            assert first["message"] == f"took the VIP {VIP}: no advert from 10.0.0.11 for 3.000 s"
            pod = await api.get("v1:pods/a")
            assert pod is not None
            assert first["involvedObject"]["uid"] == pod["metadata"]["uid"]
            assert events["Node/node-a", "TookVIP"]["involvedObject"]["uid"] == "node-a"
            of_node = "v1:events?fieldSelector=involvedObject.kind%3DNode,involvedObject.name%3Dnode-a"
            assert len((await api.get(of_node) or {})["items"]) == 4, "as docs/kubernetes.md asks for them"
            described = await api.get(f"{of_node},involvedObject.namespace%3D")
            assert (described or {})["items"] == [], "so that `kubectl describe node` needs CARP_NODE_EVENTS"
            for each in (a, b):
                assert each.mirror.status.missing_rights == set()

    asyncio.run(story())


def test_what_the_settings_let_go_of_is_taken_away(  # noqa: PLR0915 - one story
    control_plane: ControlPlane, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agents of one node, one after the other, as the parent starts them when the settings change."""
    admin = control_plane.admin
    token = admin.create_account(namespace, "carp", rules=rules_of(*FEATURES))
    bare = admin.create_account(namespace, "bare", rules=rules_of("mirror"))
    api = Api(admin, namespace)
    was = FormerGroup(group=group(EVERYTHING), role_label="carp-role", several=False, lease=True)

    async def says(name: str = "a") -> tuple[list[str], list[str], list[str]]:
        """Labels, annotations and conditions of ours."""
        pod = await api.get(f"v1:pods/{name}")
        assert pod is not None
        ours = [c["type"] for c in pod["status"]["conditions"] if c["type"].startswith("carp-sidecar/")]
        labels = [label for label in pod["metadata"]["labels"] if label != "app"]
        return sorted(labels), sorted(pod["metadata"].get("annotations") or {}), ours

    def agent(token: str, former: tuple[FormerGroup, ...] = (), **changes: Any) -> Node:
        return node("a", namespace, str(admin.write_kubeconfig(tmp_path / "config", token)), former=former, **changes)

    async def story() -> None:  # noqa: PLR0915 - one story
        await api.create_pod("a", "10.1.0.1")
        await create_services(api)
        a = agent(token, mirror=EVERYTHING, **ON)
        async with running([a]):
            a.is_now("master", "master-down")
            await until(lambda: api.get("discovery.k8s.io/v1:endpointslices/own-carp-ipv4"), "the slice")
            await until(lambda: api.get("coordination.k8s.io/v1:leases/carp-sidecar-default"), "the Lease")
            await until(shows_vip, "the VIP")
        labels, annotations, conditions = await says()
        assert (labels, conditions) == (["carp-role"], ["carp-sidecar/master"])
        assert len(annotations) == 7

        # A second group comes: the names of everything are others, and the features go on.
        one, two = group(EVERYTHING), msgspec.structs.replace(group(), name="two", vhid=43)
        several = agent(token, (was,), groups=(one, two), **ON)
        async with running([several]):
            await until(lambda: gone(["carp-role"]), "the plain names")
        assert await says() == ([], [], [])
        assert await shows_vip(), "that is the other groups' as well"

        # The mirror is switched off while the group is master.
        again = agent(token, mirror=EVERYTHING, **ON)
        async with running([again]):
            again.is_now("master", "master-down")
            await until(lambda: api.masters_are("a"), "as it was")
        off = agent(token, (was,), groups=(), **ON)
        async with running([off]):
            await until(lambda: gone(["carp-role"]), "the label")
        assert await says() == ([], [], [])
        assert not await shows_vip()
        found = await api.get("discovery.k8s.io/v1:endpointslices/own-carp-ipv4")
        assert found is not None
        assert not found["endpoints"]
        lease = await api.get("coordination.k8s.io/v1:leases/carp-sidecar-default")
        assert lease is not None
        assert not lease["spec"].get("holderIdentity")
        assert lease["metadata"]["annotations"]["carp-sidecar/epoch"]

        # It comes back, and then only the label is wanted: the chart has taken the other rights away, too.
        back = agent(token, mirror=EVERYTHING, **ON)
        async with running([back]):
            back.is_now("master", "master-down")
            await until(shows_vip, "all again")
            await until(lambda: api.masters_are("a"), "all again")
        caplog.clear()
        less = agent(bare, (was,))
        async with running([less]):
            less.is_now("backup", "start")
            await until(lambda: gone(["carp-role=master"]), "the new role")
            await until(lambda: asyncio.sleep(0, "keeps the condition" in caplog.text), "what stays is said")
            assert less.mirror.status.missing_rights == set()
        assert (await says())[2] == ["carp-sidecar/master"]
        assert caplog.text.count("what the settings have let go of stays as it is: the right to") == 3
        helped = agent(token)
        async with running([helped]):
            await until(without_condition, "with the right it goes")
        assert (await says())[0] == ["carp-role"]

    async def gone(labels: list[str]) -> bool:
        return not [pod for label in labels for pod in await asyncio.to_thread(admin.list_pods, namespace, label)]

    async def shows_vip() -> bool:
        service = await api.get("v1:services/balanced")
        assert service is not None
        return bool(service["status"]["loadBalancer"].get("ingress"))

    async def without_condition() -> bool:
        return not (await says())[2]

    asyncio.run(story())


def test_each_right_that_is_taken_away_is_named_and_costs_that_feature_only(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All at once, each in a namespace of its own."""
    admin = control_plane.admin
    every = [(rule, verb) for rule in rules_of(*FEATURES) for verb in rule["verbs"]]

    async def without(number: int) -> tuple[str, set[str]]:
        taken, verb = every[number]
        rules = [
            {**rule, "verbs": [each for each in rule["verbs"] if (rule, each) != (taken, verb)]}
            for rule in rules_of(*FEATURES)
        ]
        own = f"{namespace}-{number}"
        await asyncio.to_thread(admin.create_namespace, own)
        kept = [rule for rule in rules if rule["verbs"]]
        token = await asyncio.to_thread(lambda: admin.create_account(own, "carp", rules=kept))
        kubeconfig = str(admin.write_kubeconfig(tmp_path / f"config-{number}", token))
        api = Api(admin, own)
        await api.create_pod("a", "10.1.0.1")
        await create_services(api)
        right = f"{verb} {taken['resources'][0]}"
        # With the condition the labels mostly go by way of the status, which needs no other right.
        on = {**ON, "readiness_condition": right != "patch pods"}
        a = node("a", own, kubeconfig, mirror=EVERYTHING, **on)
        seen: set[str] = set()

        async with running([a]):
            while not seen:  # until everything was done that a master does: once anew, once again
                for role, reason in (("master", "master-down"), ("backup", "better-master")):
                    a.is_now(role, reason)
                    for _ in range(20):
                        await asyncio.sleep(0.1)
                        seen.update(a.mirror.status.missing_rights)
                assert a.transitions < 30, right
            if right.split()[1] != "pods":
                a.is_now("master", "master-down")
                await until(lambda: api.masters_are("a"), f"the label does not need {right}")
        return right, seen

    async def story() -> list[tuple[str, set[str]]]:
        found = []
        for first in range(0, len(every), 5):
            found += await asyncio.gather(*(without(n) for n in range(first, min(first + 5, len(every)))))
        return found

    for right, seen in asyncio.run(story()):
        assert seen == {right}
        said = [message for message in caplog.messages if f"the right to {right} in namespace" in message]
        assert said, right
    assert (
        max(Counter(message.partition(";")[0] for message in caplog.messages if "the right to" in message).values()) < 3
    )


def test_one_master_through_two_hundred_failovers_and_outages(  # noqa: PLR0915 - one story
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    admin = control_plane.admin
    token = admin.create_account(namespace, "carp", rules=rules_of("mirror"))
    api = Api(admin, namespace)
    chance = random.Random(5)
    lags: list[float] = []
    after_restarts: list[float] = []

    async def fail_over(nodes: list[Node], proxies: list[Proxy], master: int, *, restart: bool) -> int:
        winner = chance.choice([number for number in range(len(nodes)) if number != master])
        dies, outage = chance.random() < 0.3, chance.random() < 0.15
        faults = [Fault.REFUSE, Fault.HANG, Fault.TRUNCATE, Fault.UNAVAILABLE, Fault.HTML]
        if dies:  # nobody relabels its pod, and what it wants to write arrives too late
            proxies[master].become(chance.choice(faults))
        if outage:
            proxies[winner].become(chance.choice(faults))
        if restart:
            control_plane.stop_apiserver()
        nodes[winner].is_now("master", "master-down" if dies else chance.choice(["preempt", "bow-out"]))
        if not dies:
            nodes[master].is_now("backup", "better-master")
        if outage:
            await asyncio.sleep(chance.random() / 2)
            proxies[winner].become(Fault.NONE)
        if restart:  # by this thread, with which it ends
            control_plane.start_apiserver(wait=False)
            await until(lambda: asyncio.to_thread(control_plane.serves), "the API server is back")
        back = time.monotonic()
        await until(lambda: api.masters_are(nodes[winner].name), "the label follows")
        (after_restarts if restart else lags).append(time.monotonic() - back)
        if dies:
            nodes[master].is_now("backup", "woke-late")
            proxies[master].become(Fault.NONE)
        return winner

    async def story() -> Observer:
        async with AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(opened(admin.access)) for _ in "abc"]
            nodes = []
            for name, proxy in zip("abc", proxies, strict=True):
                await api.create_pod(name, "10.1.0.1")
                nodes.append(node(name, namespace, proxy.kubeconfig(tmp_path / name, token)))
            observer = Observer(await stack.enter_async_context(administrator(admin, tmp_path)), namespace)
            async with together(observer.run()), running(nodes):
                master = 0
                nodes[0].is_now("master", "master-down")
                await until(lambda: api.masters_are("a"), "the first")
                for number in range(200):
                    master = await fail_over(nodes, proxies, master, restart=number % 50 == 25)
                for number, each in enumerate(nodes):
                    if number != master:
                        each.is_now("backup", "start")
                await asyncio.sleep(3)
                assert await api.masters() == [nodes[master].name]
                written = [
                    sum(count for (verb, _, _), count in each.mirror.status.requests.items() if verb == "patch")
                    for each in nodes
                ]
                assert sum(written) < 200 * 5
        return observer

    observer = asyncio.run(story())
    lags.sort()
    print(f"label lag over 200 failovers: median {lags[98]:.3f} s, worst {lags[-1]:.3f} s, {observer.changes} changes")
    print(f"after the API server's restarts: {', '.join(f'{each:.3f} s' for each in after_restarts)}")
    assert lags[98] < 2.0
    assert len(after_restarts) == 4
    assert observer.changes > 400
    assert observer.two_at_once == []
