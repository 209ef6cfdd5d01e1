"""The calls about pods that the mirror makes. Of a pod it reads what ``desired.Pod`` names and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from sidecar.agent.desired import PREFIX, Condition, Metadata, Pod
from sidecar.agent.errors import ApiError
from sidecar.agent.follow import Change, Listed, Object, Source, Which
from sidecar.agent.transport import MERGE_PATCH, STRATEGIC_PATCH, Call, Transport


class PodApi(Source[Pod], Protocol):
    """What the mirror needs of Kubernetes to follow and to label pods. Every method raises ApiError."""

    async def patch(self, pod: Pod, said: Metadata, *, unchanged: bool = False) -> Pod:
        """Have a pod say something, ``unchanged``: only if it is as we read it (else 409). Return it as it is then.

        A pod of another uid under the same name is a 409, too.
        """
        ...


T = TypeVar("T", bound=Object)


class _Metadata(msgspec.Struct):
    name: str
    resource_version: str = msgspec.field(name="resourceVersion")
    uid: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = msgspec.field(name="deletionTimestamp", default=None)


class _Condition(msgspec.Struct):
    type: str
    status: str


_ENDED = frozenset({"Succeeded", "Failed"})
"""Phases of a pod that runs no more and never again."""


class _Ip(msgspec.Struct):
    ip: str


class _Status(msgspec.Struct):
    phase: str = ""
    conditions: list[_Condition] = []
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: list[_Ip] = msgspec.field(name="podIPs", default_factory=list)


class _Pod(msgspec.Struct):
    metadata: _Metadata
    status: _Status = msgspec.field(default_factory=_Status)


class ListMetadata(msgspec.Struct):
    """What a list, and a bookmark, say of themselves."""

    resource_version: str = msgspec.field(name="resourceVersion", default="")


class _PodList(msgspec.Struct):
    items: list[_Pod] | None = None
    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: ListMetadata


class _Error(msgspec.Struct):
    code: int = 500
    message: str = ""


class KubernetesPods:
    """PodApi on a real API server."""

    def __init__(self, namespace: str, transport: Transport) -> None:
        self._namespace = namespace
        self._transport = transport

    async def list(self, which: Which) -> Listed[Pod]:
        """Read pods as they are now."""
        found: _PodList = decode(await self._transport.request(self._call("list", query=query_of(which))), _PodList)
        return Listed(tuple(map(_pod, found.items or [])), found.metadata.resource_version)

    async def watch(self, which: Which, version: str, *, seconds: int) -> AsyncIterator[Change[Pod]]:
        """Tell what changes."""
        query = query_of(which, version=version, seconds=seconds)
        async for line in self._transport.lines(self._call("watch", query=query)):
            yield change_of(line, _Pod, _pod) if line.strip() else Change("")

    async def patch(self, pod: Pod, said: Metadata, *, unchanged: bool = False) -> Pod:
        """Have a pod say something; with conditions through the status subresource, which takes labels as well."""
        fields: dict[str, object] = {"labels": dict(said.labels), "annotations": dict(said.annotations)}
        if pod.uid:
            fields["uid"] = pod.uid
        if unchanged:
            fields["resourceVersion"] = pod.resource_version
        body: dict[str, object] = {"metadata": fields}
        conditions = [_condition(each) for each in said.conditions]
        conditions += [{"$patch": "delete", "type": each} for each in said.without]
        if conditions:
            body["status"] = {"conditions": conditions}
        call = self._call("patch", name=pod.name, body=body, status=bool(conditions))
        read: _Pod = decode(await self._transport.request(call), _Pod)
        return _pod(read)

    def _call(
        self,
        verb: str,
        *,
        name: str = "",
        query: tuple[tuple[str, str], ...] = (),
        body: dict[str, object] | None = None,
        status: bool = False,
    ) -> Call:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        return Call(
            verb=verb,
            resource="pods/status" if status else "pods",
            path=f"{path}/{name}{'/status' if status else ''}" if name else path,
            what=f"pod {self._namespace}/{name}" if name else f"namespace {self._namespace}",
            query=query,
            body=body,
            content_type=STRATEGIC_PATCH if status else MERGE_PATCH,
        )


def decode(body: bytes, kind: type[Any]) -> Any:  # noqa: ANN401 - msgspec returns what it is asked for
    """Read an answer. Raises ApiError where it is none of that shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(f"the API server's answer cannot be read: {error}") from error


def query_of(which: Which, *, version: str = "", seconds: int = 0) -> tuple[tuple[str, str], ...]:
    """Return the query of a list, or of a watch for ``seconds`` from ``version`` on."""
    watching = (
        ("watch", "1"),
        ("resourceVersion", version),
        ("allowWatchBookmarks", "true"),
        ("timeoutSeconds", str(seconds)),
    )
    selectors = (("labelSelector", which.labels), ("fieldSelector", which.fields))
    chosen = tuple((name, text) for name, text in selectors if text)
    return (*chosen, *watching) if seconds else chosen


def change_of(line: bytes, kind: type[Any], read: Callable[[Any], T]) -> Change[T]:
    """Read one event of a watch of objects of that shape. Raises ApiError."""
    event: _Event = decode(line, _Event)
    match event.type:
        case "ADDED" | "MODIFIED" | "DELETED":
            item = read(decode(event.object, kind))
            return Change(item.resource_version, item, gone=event.type == "DELETED")
        case "BOOKMARK":
            return Change(decode(event.object, _Bookmark).metadata.resource_version)
        case "ERROR":
            error: _Error = decode(event.object, _Error)
            raise ApiError(f"the watch ends: {error.message[:200]} ({error.code})", error.code)
        case _:
            raise ApiError("the API server's answer cannot be read: it is no event of a watch")


def _pod(item: _Pod) -> Pod:
    found, status = item.metadata, item.status
    said = {each.type: each.status for each in status.conditions}
    return Pod(
        name=found.name,
        uid=found.uid,
        resource_version=found.resource_version,
        labels=found.labels,
        annotations=found.annotations,
        terminating=found.deletion_timestamp is not None,
        ended=status.phase in _ENDED,
        ready=said.get("Ready") != "False",
        conditions={type_: text for type_, text in said.items() if type_.startswith(PREFIX)},
        ips=tuple(each.ip for each in status.pod_ips) or ((status.pod_ip,) if status.pod_ip else ()),
    )


def _condition(condition: Condition) -> dict[str, str]:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": condition.since,
    }
