"""What is taken away of groups that the settings have let go of: all that is theirs, nothing else, and once."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from sidecar.agent.balancers import Balancers
from sidecar.agent.errors import ApiError
from sidecar.agent.lease import Witness
from sidecar.agent.slices import Slices
from sidecar.agent.tidy import Beyond, Tidy
from sidecar.ipc.messages import FormerGroup, MirroredGroup
from sidecar.ipc.plan import MirrorPlan
from tests.fakes.objects import Objects, context
from tests.fakes.pods import FakePods
from tests.fakes.time import run

APP = MirrorPlan(target_selector="app=web", endpoint_slice="web", load_balancer_class="carp/vip")
PLAIN = {"carp-sidecar/vhid": "42", "carp-sidecar/vips": "10.0.0.200/32", "carp-sidecar/epoch": "7"}
USERS = {"carp-sidecar/note": "not of a group", "other/vhid": "9"}


def former(
    name: str = "web",
    *,
    label: str = "carp-role",
    several: bool = False,
    mirror: MirrorPlan = MirrorPlan(),  # noqa: B008 - frozen
    **more: Any,
) -> FormerGroup:
    group = MirroredGroup(name=name, interface="eth0", vhid=42, vips=("10.0.0.200/32",), mirror=mirror)
    return FormerGroup(**{"group": group, "role_label": label, "several": several, "lease": False, **more})


def named(name: str) -> MirroredGroup:
    return msgspec.structs.replace(context().groups[0], name=name)


async def tidied(
    pods: FakePods,
    *ever: FormerGroup,
    groups: Sequence[MirroredGroup] = (),
    objects: Objects | None = None,
    seconds: float = 100.0,
    **plan: Any,
) -> set[str]:
    """Tidy up as node-a's agent does when it starts; return which rights it missed at the end."""
    shared = dataclasses.replace(context(**plan), groups=tuple(groups))
    transport: Any = objects or Objects()
    beyond = Beyond(
        witness=Witness(transport, shared, lambda *_: None),
        slices=Slices(transport, shared, lambda *_: None),
        balancers=Balancers(transport, shared),
    )
    task = asyncio.create_task(Tidy(pods.client(), shared, ever, beyond).run())
    await asyncio.sleep(seconds)
    if task.done():
        await task
    task.cancel()
    return shared.status.missing_rights


@pytest.fixture
def pods() -> FakePods:
    return FakePods()


# Pods ----------------------------------------------------------------------------------------------------------------


def test_a_pod_that_says_only_what_it_should_is_left_alone(pods: FakePods) -> None:
    pods.add("a", {"carp-role": "master", "app": "web"}, PLAIN | USERS)
    run(tidied(pods, groups=context().groups))
    assert pods.writes == []
    assert pods.calls == {"list": 1}


def test_without_groups_the_own_pod_says_nothing_whoever_remembers(pods: FakePods) -> None:
    """The mirror was switched off; or the sidecar was started anew with other settings."""
    pods.add("a", {"carp-role": "master", "app": "web"}, PLAIN | USERS, conditions={"carp-sidecar/master": "True"})
    run(tidied(pods))
    a = pods.pods["a"]
    assert (a.labels, a.annotations, a.conditions) == ({"app": "web"}, USERS, {})
    assert len(pods.writes) == 1


def test_where_a_second_group_comes_the_names_of_the_only_one_go_and_the_other_way_round(pods: FakePods) -> None:
    pods.add("a", {"carp-role": "master", "carp-role-web": "master"}, {**PLAIN, "carp-sidecar/web.vhid": "42"})
    run(tidied(pods, groups=(named("web"), named("db"))))
    assert pods.pods["a"].labels == {"carp-role-web": "master"}
    assert pods.pods["a"].annotations == {"carp-sidecar/web.vhid": "42"}
    run(tidied(pods, groups=(named("db"), named("mail"))))
    assert pods.pods["a"].labels == pods.pods["a"].annotations == {}


def test_the_condition_goes_when_its_feature_is_switched_off_and_stays_while_it_is_on(pods: FakePods) -> None:
    pods.add("a", {"carp-role": "master"}, PLAIN, conditions={"carp-sidecar/master": "True", "Ready": "True"})
    run(tidied(pods, groups=context().groups, readiness_condition=True))
    assert pods.writes == []
    run(tidied(pods, groups=context().groups))
    assert pods.pods["a"].conditions == {"Ready": "True"}
    assert pods.pods["a"].labels == {"carp-role": "master"}


def test_another_name_of_the_label_replaces_the_old_one(pods: FakePods) -> None:
    pods.add("a", {"carp-role": "backup", "vip": "backup"}, PLAIN)
    run(tidied(pods, former(label="vip"), groups=context().groups))
    assert pods.pods["a"].labels == {"carp-role": "backup"}
    assert pods.pods["a"].annotations == PLAIN


def test_another_selector_leaves_nothing_on_the_pods_of_the_old_one_on_this_node(pods: FakePods) -> None:
    for name, app, node in (("old", "web", "node-a"), ("new", "shop", "node-a"), ("far", "web", "node-b")):
        pods.add(name, {"app": app, "carp-role": "master"}, PLAIN, node=node)
    pods.add("both", {"app": "web", "also": "shop", "carp-role": "master"}, PLAIN, node="node-a")
    group = msgspec.structs.replace(context().groups[0], mirror=MirrorPlan(target_selector="also=shop"))
    run(tidied(pods, former(mirror=APP), groups=(group,)))
    assert [name for name, pod in pods.pods.items() if "carp-role" not in pod.labels] == ["old"]
    assert pods.pods["old"].annotations == {}


def test_what_another_sidecar_says_of_its_groups_on_the_same_pods_stays(pods: FakePods) -> None:
    theirs = {"carp-sidecar/db.vhid": "7"}
    pods.add("app", {"app": "web", "carp-role-db": "master", "carp-role-web": "backup"}, theirs, node="node-a")
    run(tidied(pods, former(several=True, mirror=APP)))
    assert pods.pods["app"].labels == {"app": "web", "carp-role-db": "master"}
    assert pods.pods["app"].annotations == theirs


def test_once_it_is_gone_it_is_nobodys_business_any_more(pods: FakePods) -> None:
    async def story() -> None:
        pods.add("a", {"carp-role": "master"}, PLAIN)
        working = asyncio.create_task(tidied(pods, seconds=1000))
        await asyncio.sleep(10)
        assert pods.pods["a"].labels == {}
        pods.edit("a", {"carp-role": "master"})
        await working
        assert pods.pods["a"].labels == {"carp-role": "master"}

    run(story())


@pytest.mark.parametrize(
    "trouble",
    [
        ApiError("the API server cannot be reached"),
        ApiError("the API server answers 409", 409),
        ApiError("the API server answers 429", 429, retry_after=3.0),
    ],
    ids=str,
)
def test_it_is_tried_until_it_worked(pods: FakePods, trouble: ApiError) -> None:
    pods.add("a", {"carp-role": "master"}, PLAIN)
    pods.failures = [trouble] * 5
    run(tidied(pods))
    assert pods.pods["a"].labels == {}
    assert len(pods.writes) == 1


def test_a_pod_that_is_gone_meanwhile_takes_it_along(pods: FakePods) -> None:
    async def story() -> None:
        pods.add("a", {"carp-role": "master"}, PLAIN)
        client = pods.client()
        listed = client.list

        async def too_late(which: Any) -> Any:
            found = await listed(which)
            pods.remove("a")
            return found

        client.list = too_late  # type: ignore[method-assign]
        pods.client = lambda *_: client  # type: ignore[method-assign]
        await tidied(pods)
        assert pods.calls["patch"] == 1

    run(story())


def test_without_the_right_to_the_status_the_condition_stays_is_named_and_holds_nothing_up(
    pods: FakePods, caplog: pytest.LogCaptureFixture
) -> None:
    pods.add("a", {"carp-role": "master"}, PLAIN, conditions={"carp-sidecar/master": "True"})
    pods.forbidden = frozenset({"patch pods/status"})
    with caplog.at_level(logging.INFO):
        assert run(tidied(pods)) == set()
    assert pods.pods["a"].labels == {}
    assert pods.calls["patch"] == 2
    assert [record.getMessage() for record in caplog.records] == [
        "pod a keeps the condition carp-sidecar/master: the right to patch pods/status is missing (403)",
        "pod a no longer says carp-role, carp-sidecar/epoch, carp-sidecar/vhid, carp-sidecar/vips",
    ]


# Beyond the pods -----------------------------------------------------------------------------------------------------

ROOT = "/apis/{}/namespaces/edge/{}"
LEASE = ROOT.format("coordination.k8s.io/v1", "leases/carp-sidecar-web")
SLICE = ROOT.format("discovery.k8s.io/v1", "endpointslices/web-carp-ipv4")
SERVICE = "/api/v1/namespaces/edge/services/balanced"


def shown(pods: FakePods, *, label: str = "master", by: str = "app") -> Objects:
    """A group whose master the pod app is, or was."""
    pods.add("app", {"app": "web", "carp-role": label}, PLAIN, node="node-a", uid="uid-app")
    found = Objects()
    found.put(LEASE, {"spec": {"holderIdentity": by}, "metadata": {"annotations": {"carp-sidecar/epoch": "7"}}})
    endpoints = [{"addresses": ["10.1.0.1"], "targetRef": {"uid": f"uid-{by}"}}]
    found.put(SLICE, {"endpoints": endpoints, "ports": [], "metadata": {}})
    service = {
        "metadata": {"name": "balanced", "uid": "s"},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "carp/vip", "ipFamilies": ["IPv4"]},
        "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.200"}]}},
    }
    found.put(SERVICE, service)
    return found


def says(found: Objects) -> tuple[Any, Any, Any]:
    return (
        found.found[LEASE]["spec"]["holderIdentity"],
        found.found[SLICE]["endpoints"],
        found.found[SERVICE]["status"]["loadBalancer"]["ingress"],
    )


def test_what_led_to_this_node_leads_nowhere(pods: FakePods) -> None:
    found = shown(pods)
    run(tidied(pods, former(mirror=APP, lease=True), objects=found))
    assert says(found) == (None, [], [])
    assert found.found[LEASE]["metadata"]["annotations"] == {"carp-sidecar/epoch": "7"}, "later claims have to be newer"
    assert len(found.writes) == 3


def test_what_leads_to_another_node_stays(pods: FakePods) -> None:
    found = shown(pods, label="backup", by="other")
    before = says(found)
    run(tidied(pods, former(mirror=APP, lease=True), objects=found))
    assert says(found) == before
    assert found.writes == []


def test_what_the_settings_still_name_stays(pods: FakePods) -> None:
    found = shown(pods)
    before = says(found)
    group = msgspec.structs.replace(context().groups[0], mirror=APP, vhid=43)
    run(tidied(pods, former(mirror=APP, lease=True), groups=(group,), objects=found, lease_witness=True))
    assert says(found) == before
    assert found.calls == []


def test_a_right_that_went_with_its_feature_is_named_and_holds_nothing_up(
    pods: FakePods, caplog: pytest.LogCaptureFixture
) -> None:
    found = shown(pods)
    found.failures = [ApiError(f"the right to {what} is missing (403)", 403) for what in ("get leases", "get slices")]
    assert run(tidied(pods, former(mirror=APP, lease=True), objects=found)) == set()
    assert says(found)[2] == []
    assert pods.pods["app"].labels == {"app": "web"}
    assert caplog.messages == [
        "what the settings have let go of stays as it is: the right to get leases is missing (403)",
        "what the settings have let go of stays as it is: the right to get slices is missing (403)",
    ]


def test_a_server_in_trouble_is_asked_again_before_the_label_goes_that_tells_who_was_master(pods: FakePods) -> None:
    found = shown(pods)
    found.failures = [ApiError("the API server answers 500", 500)] * 3
    run(tidied(pods, former(mirror=APP, lease=True), objects=found))
    assert says(found) == (None, [], [])
    assert pods.pods["app"].labels == {"app": "web"}
