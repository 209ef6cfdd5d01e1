"""What people say of this node by its Node object: two annotations, and whether it is cordoned. Read, never written.

An API server that is away or refuses says nothing new, nor does a Node object that is gone: what was said last stands.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import msgspec

from sidecar.agent.api import ListMetadata, change_of, decode, query_of
from sidecar.agent.context import Context
from sidecar.agent.desired import PREFIX
from sidecar.agent.errors import ApiError
from sidecar.agent.events import News
from sidecar.agent.follow import Change, Follower, Listed, Which
from sidecar.agent.transport import Call, Transport
from sidecar.ipc.messages import NodeSays
from sidecar.ipc.plan import KubernetesPlan

log = logging.getLogger(__name__)

MAINTENANCE = f"{PREFIX}maintenance"
ADVSKEW = f"{PREFIX}advskew"
_ADVSKEW_AT_MOST = 254
_SHOWN_AT_MOST = 40
_METADATA = "application/json;as={};g=meta.k8s.io;v=v1"
"""Asks for an object's metadata and nothing else of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What is read of a Node."""

    name: str
    uid: str
    resource_version: str
    annotations: Mapping[str, str]
    unschedulable: bool


class _Metadata(msgspec.Struct):
    name: str
    uid: str = ""
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    annotations: dict[str, str] = {}


class _Spec(msgspec.Struct):
    unschedulable: bool = False


class _Node(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


class _NodeList(msgspec.Struct):
    items: list[_Node] | None = None
    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)


class KubernetesNodes:
    """The calls about nodes; only their metadata is asked for, unless the ``whole`` of them is. All raise ApiError."""

    def __init__(self, transport: Transport, *, whole: bool) -> None:
        self._transport = transport
        self._whole = whole

    async def list(self, which: Which) -> Listed[Node]:
        """Read nodes as they are now."""
        answer = await self._transport.request(self._call("list", query_of(which)))
        found: _NodeList = decode(answer, _NodeList)
        return Listed(tuple(map(_node, found.items or [])), found.metadata.resource_version)

    async def watch(self, which: Which, version: str, *, seconds: int) -> AsyncIterator[Change[Node]]:
        """Tell what changes."""
        query = query_of(which, version=version, seconds=seconds)
        async for line in self._transport.lines(self._call("watch", query)):
            yield change_of(line, _Node, _node) if line.strip() else Change("")

    def _call(self, verb: str, query: tuple[tuple[str, str], ...]) -> Call:
        shape = "PartialObjectMetadata" if verb == "watch" else "PartialObjectMetadataList"
        accept = "application/json" if self._whole else _METADATA.format(shape)
        return Call(verb=verb, resource="nodes", path="/api/v1/nodes", what="nodes", query=query, accept=accept)


def _node(item: _Node) -> Node:
    found = item.metadata
    return Node(
        name=found.name,
        uid=found.uid,
        resource_version=found.resource_version,
        annotations=found.annotations,
        unschedulable=item.spec.unschedulable,
    )


def word(node: Node, plan: KubernetesPlan) -> NodeSays:
    """Return what a node says of what the settings want to know. Pure."""
    said = node.annotations if plan.node_annotations else {}
    maintenance = said.get(MAINTENANCE, "").strip()
    advskew = said.get(ADVSKEW, "").strip()
    usable = advskew.isascii() and advskew.isdigit() and len(advskew) <= 3 and int(advskew) <= _ADVSKEW_AT_MOST
    return NodeSays(
        maintenance=None if maintenance.lower() in ("", "false") else maintenance,
        advskew=int(advskew) if usable else None,
        refused=_refusal(node.name, advskew) if advskew and not usable else None,
        cordoned=plan.cordon and node.unschedulable,
    )


def _refusal(node: str, advskew: str) -> str:
    shown = advskew if len(advskew) <= _SHOWN_AT_MOST else f"{advskew[:_SHOWN_AT_MOST]}..."
    return (
        f"node {node}: annotation {ADVSKEW}={shown!r} is no whole number from 0 to {_ADVSKEW_AT_MOST}; the advskew "
        f"before it stays in force; correct it, or remove it: kubectl annotate node {node} {ADVSKEW}-"
    )


class NodeWatch:
    """Follows this node. ``said`` gets what it says whenever that changes, ``tell`` what there is to tell as Events."""

    def __init__(
        self, transport: Transport, context: Context, *, said: Callable[[NodeSays], None], tell: Callable[[News], None]
    ) -> None:
        self._context = context
        self._said = said
        self._tell = tell
        self._last: NodeSays | None = None
        self._follower = Follower(
            KubernetesNodes(transport, whole=context.plan.cordon),
            Which(fields=f"metadata.name={context.node}"),
            changed=self._changed,
            failed=lambda error: context.complaints.note("watch the node", error),
            jitter=context.jitter,
        )

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._follower.run()

    def _changed(self) -> None:
        context, name = self._context, self._context.node
        node = (self._follower.items or {}).get(name)
        fault = ApiError(f"node {name} is not there (404); check NODE_NAME", 404)
        context.complaints.note("own node", None if node is not None else fault)
        if node is None:
            return
        says = word(node, context.plan)
        before, self._last = self._last, says
        if says == before:
            return
        context.status.annotation_refused = says.refused or ""
        if says.refused is not None and (before is None or says.refused != before.refused):
            log.error("%s", says.refused)
            self._tell(News("AnnotationRefused", says.refused, "node", context.wall(), warning=True))
        self._said(says)
