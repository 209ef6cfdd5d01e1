"""Asks the API server what this pod may do (SelfSubjectAccessReview), for each right of the chart's Role."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import yaml
from kubernetes.aio import client, config
from kubernetes.aio.config.config_exception import ConfigException

from sidecar.doctor.facts import Right
from sidecar.ipc.plan import KubernetesPlan

NEEDED = tuple((verb, "pods") for verb in ("get", "list", "watch", "patch"))
"""What the mirror needs: the rules of charts/carp-sidecar/files/role-rules.yaml."""

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_TIMEOUTS = aiohttp.ClientTimeout(total=5.0, sock_connect=2.0)
_FAULTS = (aiohttp.ClientError, ConfigException, OSError, TypeError, ValueError, KeyError, yaml.YAMLError)


def ask(plan: KubernetesPlan) -> tuple[Right, ...] | str:
    """Return each right with the server's answer, or why it could not be asked."""
    try:
        return asyncio.run(_ask(plan))
    except _FAULTS as error:
        return f"the API server cannot be asked: {type(error).__name__} {' '.join(str(error).split())[:200]}".rstrip()


async def _ask(plan: KubernetesPlan) -> tuple[Right, ...]:
    configuration = client.Configuration()
    if plan.kubeconfig:
        await config.load_kube_config(config_file=plan.kubeconfig, client_configuration=configuration)
    else:
        config.load_incluster_config(client_configuration=configuration)
    configuration.retries = None
    async with client.ApiClient(configuration) as api:
        return tuple([await _may(api, plan, verb, resource) for verb, resource in NEEDED])


async def _may(api: client.ApiClient, plan: KubernetesPlan, verb: str, resource: str) -> Right:
    name, _, subresource = resource.partition("/")
    attributes = {"namespace": plan.pod_namespace, "verb": verb, "resource": name, "subresource": subresource}
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
    return Right(verb=verb, resource=resource, granted=bool(answer["status"]["allowed"]))
