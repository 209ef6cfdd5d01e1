"""Asks the API server what this pod may do (SelfSubjectAccessReview), for each right of the chart's Role."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import aiohttp
import yaml
from kubernetes.aio import client, config
from kubernetes.aio.config.config_exception import ConfigException

from sidecar.doctor.facts import Right
from sidecar.ipc.plan import GroupPlan, KubernetesPlan, ProbeKind, ProbePlan

NEEDED: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "mirror": (("list", "pods"), ("watch", "pods"), ("patch", "pods")),
        "events": (("create", "events"), ("patch", "events")),
        "node_events": (("create", "events"), ("patch", "events")),
        "readiness_condition": (("patch", "pods/status"),),
        "lease_witness": tuple((verb, "leases") for verb in ("get", "create", "patch")),
        "endpoint_slice": (
            ("get", "services"),
            *((verb, "endpointslices") for verb in ("get", "create", "patch")),
        ),
        "load_balancer_class": (("list", "services"), ("watch", "services"), ("patch", "services/status")),
        "node_annotations": (("list", "nodes"), ("watch", "nodes")),
        "cordon": (("list", "nodes"), ("watch", "nodes")),
        "node_condition": (("get", "nodes"),),
    }
)
"""What each feature needs, by its setting: the *-rules.yaml in charts/carp-sidecar/files."""
_ELSEWHERE = {"node_events": "default"}
"""The namespace in which it is needed, where that is not the pod's own."""
_GROUPS = {"leases": "coordination.k8s.io", "endpointslices": "discovery.k8s.io"}
"""The API group of the resources that are not of the core."""

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_TIMEOUTS = aiohttp.ClientTimeout(total=5.0, sock_connect=2.0)
_FAULTS = (aiohttp.ClientError, ConfigException, OSError, TypeError, ValueError, KeyError, yaml.YAMLError)


def needed(
    plan: KubernetesPlan, groups: Sequence[GroupPlan], health: Sequence[ProbePlan] = ()
) -> tuple[tuple[str, str, str], ...]:
    """Return the rights that these settings need: verb, resource, and the namespace, "" for the pod's own."""
    on = {
        "mirror": True,
        "events": plan.events,
        "node_events": plan.events and plan.node_events,
        "readiness_condition": plan.readiness_condition,
        "lease_witness": plan.lease_witness,
        "endpoint_slice": any(group.mirror.endpoint_slice for group in groups),
        "load_balancer_class": any(group.mirror.load_balancer_class for group in groups),
        "node_annotations": plan.node_annotations,
        "cordon": plan.cordon,
        "node_condition": any(probe.kind is ProbeKind.NODE_CONDITION for probe in health),
    }
    used = [(feature, right) for feature, rights in NEEDED.items() if on[feature] for right in rights]
    return tuple(dict.fromkeys((*right, _ELSEWHERE.get(feature, "")) for feature, right in used))


def ask(
    plan: KubernetesPlan, groups: Sequence[GroupPlan] = (), health: Sequence[ProbePlan] = (), *, node: str = ""
) -> tuple[Right, ...] | str:
    """Return each right that is needed with the server's answer, or why it could not be asked.

    Of nodes the agent reads its own and no other, so that is the ``node`` which is asked about.
    """
    try:
        return asyncio.run(_ask(plan, needed(plan, groups, health), node))
    except _FAULTS as error:
        return f"the API server cannot be asked: {type(error).__name__} {' '.join(str(error).split())[:200]}".rstrip()


async def _ask(plan: KubernetesPlan, wanted: Sequence[tuple[str, str, str]], node: str) -> tuple[Right, ...]:
    configuration = client.Configuration()
    if plan.kubeconfig:
        await config.load_kube_config(config_file=plan.kubeconfig, client_configuration=configuration)
    else:
        config.load_incluster_config(client_configuration=configuration)
    configuration.retries = None
    async with client.ApiClient(configuration) as api:
        return tuple([await _may(api, right, _attributes(plan, right, node=node)) for right in wanted])


def _attributes(plan: KubernetesPlan, right: tuple[str, str, str], *, node: str) -> dict[str, str]:
    verb, resource, namespace = right
    kind, _, subresource = resource.partition("/")
    of_nodes = kind == "nodes"
    return {
        "namespace": "" if of_nodes else namespace or plan.pod_namespace,
        "verb": verb,
        "group": _GROUPS.get(kind, ""),
        "resource": kind,
        "subresource": subresource,
        "name": node if of_nodes else "",
    }


async def _may(api: client.ApiClient, right: tuple[str, str, str], attributes: Mapping[str, str]) -> Right:
    request = await api.param_serialize(
        "POST",
        _REVIEWS,
        header_params={"Accept": "application/json", "Content-Type": "application/json"},
        body={"spec": {"resourceAttributes": attributes}},
        auth_settings=["BearerToken"],
    )
    response = await api.call_api(*request, _request_timeout=_TIMEOUTS)
    answer = json.loads(await response.read())
    if response.status >= 300:
        raise ValueError(f"{response.status} {answer.get('message', '')}")
    verb, resource, namespace = right
    return Right(verb=verb, resource=resource, namespace=namespace, granted=bool(answer["status"]["allowed"]))
