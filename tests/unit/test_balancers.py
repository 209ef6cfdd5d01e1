"""The VIPs in the status of LoadBalancer Services of our class."""

from __future__ import annotations

import asyncio
from typing import Any

from sidecar.agent.balancers import Balancers, addresses
from sidecar.agent.errors import ApiError
from sidecar.ipc.plan import MirrorPlan
from tests.fakes.objects import Objects, context, mastered
from tests.fakes.time import run

CLASS = MirrorPlan(load_balancer_class="carp/vip")
SERVICES = "/api/v1/namespaces/edge/services"


def service(
    name: str, *, of: str = "carp/vip", kind: str = "LoadBalancer", families: tuple[str, ...] = ("IPv4",)
) -> Any:
    return {
        "metadata": {"name": name, "uid": name},
        "spec": {"type": kind, "loadBalancerClass": of, "ipFamilies": list(families)},
    }


def ingress(found: Objects, name: str) -> Any:
    return found.found[f"{SERVICES}/{name}"].get("status", {}).get("loadBalancer", {}).get("ingress")


def test_a_service_gets_the_vips_of_its_families() -> None:
    vips = ("10.0.0.200/32", "fd00::200/128")
    assert addresses(vips, frozenset({"IPv4"})) == ("10.0.0.200",)
    assert addresses(vips, frozenset({"IPv4", "IPv6"})) == ("10.0.0.200", "fd00::200")
    assert addresses(vips, frozenset()) == ("10.0.0.200", "fd00::200")


def test_only_the_master_publishes_and_only_in_services_of_our_class() -> None:
    async def story() -> None:
        found = Objects()
        found.put(f"{SERVICES}/ours", service("ours", families=("IPv4", "IPv6")))
        found.put(f"{SERVICES}/theirs", service("theirs", of="other"))
        found.put(f"{SERVICES}/inner", service("inner", kind="ClusterIP"))
        balancers = Balancers(found, context(CLASS))  # type: ignore[arg-type]
        task = asyncio.create_task(balancers.run())
        await asyncio.sleep(100)
        assert found.calls == []  # a backup asks for nothing
        balancers.follow((mastered(CLASS),))
        await asyncio.sleep(1)
        assert ingress(found, "ours") == [
            {"ip": "10.0.0.200", "ipMode": "VIP"},
            {"ip": "fd00::200", "ipMode": "VIP"},
        ]
        assert ingress(found, "theirs") is ingress(found, "inner") is None
        found.put(f"{SERVICES}/later", service("later"))
        await asyncio.sleep(1)
        assert ingress(found, "later") == [{"ip": "10.0.0.200", "ipMode": "VIP"}]
        found.put(f"{SERVICES}/later", service("later"))  # somebody takes it away
        await asyncio.sleep(1)
        assert ingress(found, "later")
        written = len(found.writes)
        await asyncio.sleep(100)
        balancers.follow(())
        found.put(f"{SERVICES}/too-late", service("too-late"))
        await asyncio.sleep(100)
        assert len(found.writes) == written
        balancers.follow((mastered(CLASS, epoch=3),))
        await asyncio.sleep(1)
        assert ingress(found, "too-late")
        task.cancel()

    run(story())


def test_a_service_that_cannot_be_written_holds_up_no_other() -> None:
    async def story() -> None:
        found = Objects()
        for name in ("bad", "good"):
            found.put(f"{SERVICES}/{name}", service(name))
        found.troubles["patch", f"{SERVICES}/bad/status"] = ApiError("a webhook says no", 422)
        balancers = Balancers(found, context(CLASS))  # type: ignore[arg-type]
        task = asyncio.create_task(balancers.run())
        balancers.follow((mastered(CLASS),))
        await asyncio.sleep(5)
        assert ingress(found, "good")
        assert ingress(found, "bad") is None
        task.cancel()

    run(story())
