"""The EndpointSlice of a Service without a selector: one master's addresses at any time, in one write."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from sidecar.agent.errors import ApiError
from sidecar.agent.reconciler import Mastered
from sidecar.agent.slices import RESYNC, Slices
from sidecar.ipc.plan import MirrorPlan
from tests.fakes.objects import Objects, context, mastered
from tests.fakes.time import run

OWN = MirrorPlan(endpoint_slice="web")
SERVICE = "/api/v1/namespaces/edge/services/web"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/edge/endpointslices"
SLICE = f"{SLICES}/web-carp-ipv4"
PORTS = [
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "x"},
]


def objects(*families: str, selector: dict[str, str] | None = None) -> Objects:
    found = Objects()
    spec = {"ports": PORTS, "ipFamilies": list(families), **({"selector": selector} if selector else {})}
    found.put(SERVICE, {"metadata": {"uid": "u", "name": "web"}, "spec": spec})
    return found


async def owned(found: Objects, *masters: Mastered, seconds: float = 5.0) -> set[str]:
    shared = context(OWN)
    slices = Slices(found, shared, lambda *_: None)  # type: ignore[arg-type]
    task = asyncio.create_task(slices.run())
    for each in masters:
        slices.follow((each,))
        await asyncio.sleep(seconds)
    slices.follow(())
    await asyncio.sleep(seconds)
    task.cancel()
    return {shared.status.last_error}


def test_the_new_master_replaces_the_old_one_in_one_write() -> None:
    found = objects("IPv4")
    run(owned(found, mastered(OWN)))
    assert len(found.writes) == 1
    slice_ = found.found[f"{SLICES}/web-carp-ipv4"]
    assert slice_["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert slice_["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert slice_["ports"] == [
        {"name": "http", "protocol": "TCP", "port": 8080},
        {"name": "dns", "protocol": "UDP", "port": 53},
    ]
    (endpoint,) = slice_["endpoints"]
    assert (endpoint["addresses"], endpoint["nodeName"]) == (["10.1.0.1"], "node-a")
    assert endpoint["targetRef"] == {"kind": "Pod", "namespace": "edge", "name": "a", "uid": "uid-a"}
    run(owned(found, mastered(OWN, pod="b", epoch=2, ips=("10.1.0.2",))))
    assert len(found.writes) == 2
    (endpoint,) = found.found[f"{SLICES}/web-carp-ipv4"]["endpoints"]
    assert endpoint["addresses"] == ["10.1.0.2"]


def test_a_family_has_a_slice_of_its_own() -> None:
    found = objects("IPv4", "IPv6")
    run(owned(found, mastered(OWN, ips=("10.1.0.1", "fd00::1"))))
    assert found.found[f"{SLICES}/web-carp-ipv6"]["endpoints"][0]["addresses"] == ["fd00::1"]
    assert found.found[f"{SLICES}/web-carp-ipv6"]["addressType"] == "IPv6"


def test_a_master_without_an_address_leaves_the_old_one() -> None:
    found = objects("IPv4")
    run(owned(found, mastered(OWN), mastered(OWN, epoch=2, ips=())))
    assert found.found[f"{SLICES}/web-carp-ipv4"]["endpoints"][0]["addresses"] == ["10.1.0.1"]


def test_pods_that_have_ended_and_those_about_to_are_left_out_where_another_one_runs() -> None:
    found = objects("IPv4")

    def served(*pods: dict[str, bool]) -> list[str]:
        """The addresses, given what the pods 10.1.0.0, 10.1.0.1 and so on are."""
        each = mastered(OWN)
        (pod,) = each.targets
        targets = tuple(
            dataclasses.replace(pod, name=f"p{n}", uid=f"u{n}", ips=(f"10.1.0.{n}",), **changes)  # type: ignore[arg-type]
            for n, changes in enumerate(pods)
        )
        run(owned(found, dataclasses.replace(each, targets=targets)))
        return [endpoint["addresses"][0] for endpoint in found.found[SLICE]["endpoints"]]

    ended, going = {"ended": True}, {"terminating": True}
    assert served(ended, {}, going, {}) == ["10.1.0.1", "10.1.0.3"]
    assert served(ended, going) == ["10.1.0.1"]
    assert served({}) == ["10.1.0.0"]
    assert served(ended, ended) == ["10.1.0.0"], "never none"


def test_one_that_ends_is_left_out_at_once() -> None:
    found = objects("IPv4")

    async def story() -> None:
        slices = Slices(found, context(OWN), lambda *_: None)  # type: ignore[arg-type]
        task = asyncio.create_task(slices.run())
        both = mastered(OWN)
        other = dataclasses.replace(both.targets[0], name="b", uid="b", ips=("10.1.0.2",))
        slices.follow((dataclasses.replace(both, targets=(*both.targets, other)),))
        await asyncio.sleep(1)
        assert len(found.found[SLICE]["endpoints"]) == 2
        ended = dataclasses.replace(other, ended=True)
        slices.follow((dataclasses.replace(both, targets=(*both.targets, ended)),))
        await asyncio.sleep(1)
        assert len(found.found[SLICE]["endpoints"]) == 1
        task.cancel()

    run(story())


def test_a_late_write_never_overwrites_a_newer_truth() -> None:
    found = objects("IPv4")
    run(owned(found, mastered(OWN, pod="b", epoch=7, ips=("10.1.0.2",))))
    run(owned(found, mastered(OWN, epoch=6)))
    assert found.found[f"{SLICES}/web-carp-ipv4"]["endpoints"][0]["addresses"] == ["10.1.0.2"]


def test_a_slice_of_pods_that_are_gone_is_claimed_by_a_newer_epoch() -> None:
    """The pods were made anew, or the slice was another group's: nobody but the slice knows its epoch."""
    found = objects("IPv4")
    run(owned(found, mastered(OWN, pod="b", epoch=7, ips=("10.1.0.2",))))

    async def story() -> None:
        def known(group: str, epoch: int) -> None:  # as the reconciler does, once the pods say so
            assert group == "web"
            asyncio.get_running_loop().call_later(1, slices.follow, (mastered(OWN, epoch=epoch + 1),))

        slices = Slices(found, context(OWN), known)  # type: ignore[arg-type]
        task = asyncio.create_task(slices.run())
        slices.follow((mastered(OWN, epoch=1),))
        await asyncio.sleep(10)
        task.cancel()

    run(story())
    slice_ = found.found[f"{SLICES}/web-carp-ipv4"]
    assert slice_["endpoints"][0]["addresses"] == ["10.1.0.1"]
    assert slice_["metadata"]["annotations"] == {"carp-sidecar/epoch": "8"}
    assert len(found.writes) == 2


def test_a_slice_that_cannot_be_written_holds_up_no_other() -> None:
    found = objects("IPv4", "IPv6")
    found.troubles["patch", f"{SLICES}/web-carp-ipv4"] = ApiError("a webhook says no", 422)
    bad = mastered(MirrorPlan(endpoint_slice="none-such"), group="db")
    good = mastered(OWN, ips=("10.1.0.1", "fd00::1"))

    async def story() -> None:
        slices = Slices(found, context(OWN), lambda *_: None)  # type: ignore[arg-type]
        task = asyncio.create_task(slices.run())
        slices.follow((bad, good))
        await asyncio.sleep(5)
        assert f"{SLICES}/web-carp-ipv6" in found.found
        del found.troubles["patch", f"{SLICES}/web-carp-ipv4"]
        await asyncio.sleep(5)
        assert f"{SLICES}/web-carp-ipv4" in found.found
        task.cancel()

    run(story())


def emptied(found: Objects) -> None:
    found.put(SLICE, {**found.found[SLICE], "endpoints": []})


def deleted(found: Objects) -> None:
    del found.found[SLICE]


def of_another_port(found: Objects) -> None:
    found.found[SERVICE]["spec"]["ports"] = [{"name": "http", "port": 80, "targetPort": 9090}]


def of_a_service_made_anew(found: Objects) -> None:
    """Its slice goes with it: the owner is another one."""
    del found.found[SLICE]
    found.found[SERVICE]["metadata"]["uid"] = "another"


@pytest.mark.parametrize("change", [emptied, deleted, of_another_port, of_a_service_made_anew])
def test_what_became_of_it_is_put_right_within_the_bound_and_nothing_is_written_otherwise(
    change: Callable[[Objects], None],
) -> None:
    found = objects("IPv4")

    async def story() -> None:
        slices = Slices(found, context(OWN), lambda *_: None)  # type: ignore[arg-type]
        task = asyncio.create_task(slices.run())
        slices.follow((mastered(OWN),))
        await asyncio.sleep(3600)
        assert len(found.writes) == 1
        assert len(found.calls) <= 1 + 2 * (3600 / RESYNC + 1)
        change(found)
        await asyncio.sleep(RESYNC + 1)
        assert found.found[SLICE]["endpoints"]
        port = found.found[SERVICE]["spec"]["ports"][0]
        assert found.found[SLICE]["ports"][0]["port"] == port["targetPort"]
        assert found.found[SLICE]["metadata"]["ownerReferences"][0]["uid"] == found.found[SERVICE]["metadata"]["uid"]
        await asyncio.sleep(3600)
        assert len(found.writes) == 2
        task.cancel()

    run(story())


def test_a_service_with_a_selector_is_not_ours() -> None:
    found = objects("IPv4", selector={"a": "b"})
    (said,) = run(owned(found, mastered(OWN)))
    assert said == "Service edge/web has a selector, so its EndpointSlices are not ours; take it away"
    assert found.writes == []
