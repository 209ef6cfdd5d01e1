"""The few calls to the Kubernetes API that the mirror makes, through the official client's asyncio half.

Pods are read as far as their metadata and no further: the client's models of a whole pod are neither needed nor small.
"""

from __future__ import annotations

from typing import Any, Protocol

import aiohttp
import msgspec
import yaml
from kubernetes.aio import client, config
from kubernetes.aio.config import kube_config
from kubernetes.aio.config.config_exception import ConfigException

from sidecar.agent.desired import Metadata, Pod
from sidecar.ipc.plan import KubernetesPlan

_MERGE_PATCH = "application/merge-patch+json"
_PODS = "/api/v1/namespaces/{namespace}/pods"
_POD = _PODS + "/{name}"
_TIMEOUTS = aiohttp.ClientTimeout(total=10.0, sock_connect=1.0)
"""Seconds. Connecting is kept short, so that a server that is back is found at once; answering may take its time."""


_UNREADABLE = (ConfigException, OSError, TypeError, ValueError, KeyError, AttributeError, yaml.YAMLError)
"""What the client's loader raises at a kubeconfig or a certificate that is not one; an ssl.SSLError is an OSError."""


class ApiError(Exception):
    """A call failed. ``status`` is the HTTP status, or None if no answer came; the message says what to do about it."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class PodApi(Protocol):
    """What the reconciler needs of Kubernetes."""

    async def own(self) -> Pod:
        """Read the sidecar's own pod. Raises ApiError."""
        ...

    async def labelled(self, selector: str) -> list[Pod]:
        """Read the namespace's pods that match a label selector. Raises ApiError."""
        ...

    async def patch(self, name: str, metadata: Metadata, *, resource_version: str | None = None) -> None:
        """Set labels and annotations, if given only on that version of the pod (else 409). Raises ApiError."""
        ...


class _Metadata(msgspec.Struct):
    name: str
    resource_version: str = msgspec.field(name="resourceVersion")
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Pod(msgspec.Struct):
    metadata: _Metadata


class _PodList(msgspec.Struct):
    items: list[_Pod] | None = None


class _Status(msgspec.Struct):
    message: str = ""


class KubernetesPods:
    """PodApi on a real API server. Open with ``connect``; connections are kept between calls."""

    def __init__(self, plan: KubernetesPlan, api: client.ApiClient) -> None:
        self._plan = plan
        self._api = api

    @classmethod
    async def connect(cls, plan: KubernetesPlan) -> KubernetesPods:
        """Read the kubeconfig, or the pod's own service account. Raises ApiError; no request is made yet."""
        configuration = client.Configuration()
        try:
            if plan.kubeconfig:
                await config.load_kube_config(config_file=plan.kubeconfig, client_configuration=configuration)
            else:
                config.load_incluster_config(client_configuration=configuration)
            configuration.retries = None  # the reconciler tries again, with the newest snapshot
            api = client.ApiClient(configuration)
        except _UNREADABLE as error:
            where = f"KUBECONFIG {plan.kubeconfig}" if plan.kubeconfig else "the pod's service account"
            raise ApiError(f"cannot read {where}: {type(error).__name__} {error}") from error
        finally:
            # The loader writes inline certificates to files for OpenSSL, and removes them only at a regular exit.
            kube_config._cleanup_temp_files()
        return cls(plan, api)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def own(self) -> Pod:
        """Read the sidecar's own pod."""
        return _pod(_decode(await self._call("GET", "get", name=self._plan.pod_name), _Pod))

    async def labelled(self, selector: str) -> list[Pod]:
        """Read the namespace's pods that match a label selector."""
        body = await self._call("GET", "list", query=[("labelSelector", selector)])
        return [_pod(item) for item in _decode(body, _PodList).items or []]

    async def patch(self, name: str, metadata: Metadata, *, resource_version: str | None = None) -> None:
        """Set labels and annotations in one merge patch."""
        fields: dict[str, object] = {"labels": dict(metadata.labels), "annotations": dict(metadata.annotations)}
        if resource_version is not None:
            fields["resourceVersion"] = resource_version
        await self._call("PATCH", "patch", name=name, body={"metadata": fields})

    async def _call(
        self,
        method: str,
        verb: str,
        *,
        name: str | None = None,
        query: list[tuple[str, str]] | None = None,
        body: dict[str, object] | None = None,
    ) -> bytes:
        """Make one request; ``verb`` is its name in RBAC. Raises ApiError."""
        path = {"namespace": self._plan.pod_namespace} | ({} if name is None else {"name": name})
        headers = {"Accept": "application/json", "Content-Type": _MERGE_PATCH if body else "application/json"}
        try:
            # One level below the generated CoreV1Api, which takes no connect timeout and insists on whole models.
            request = await self._api.param_serialize(
                method,
                _PODS if name is None else _POD,
                path_params=path,
                query_params=query or [],
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*request, _request_timeout=_TIMEOUTS)
            answer: bytes = await response.read()
        except TimeoutError as error:
            raise ApiError("the API server does not answer in time") from error
        except (aiohttp.ClientError, ConfigException, OSError) as error:
            raise ApiError(f"the API server cannot be reached: {error}") from error
        if response.status >= 300:
            raise ApiError(self._explain(response.status, answer, verb), response.status)
        return answer

    def _explain(self, status: int, body: bytes, verb: str) -> str:
        try:
            said = msgspec.json.decode(body, type=_Status).message
        except msgspec.DecodeError:
            said = ""
        plan = self._plan
        match status:
            case 401:
                return "the API server does not accept the token (401); is the service account still there?"
            case 403:
                return (
                    f"the right to {verb} pods in namespace {plan.pod_namespace} is missing (403); bind the Role that "
                    f"the chart ships to this pod's service account"
                )
            case 404:
                return f"pod {plan.pod_namespace}/{plan.pod_name} is not there (404); check POD_NAME and POD_NAMESPACE"
            case _:
                return f"the API server answers {status}{': ' if said else ''}{said[:200]}"


def _decode(body: bytes, kind: type[Any]) -> Any:  # noqa: ANN401 - msgspec returns what it is asked for
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(f"the API server's answer cannot be read: {error}") from error


def _pod(item: _Pod) -> Pod:
    found = item.metadata
    return Pod(
        name=found.name,
        resource_version=found.resource_version,
        labels=found.labels,
        annotations=found.annotations,
    )
