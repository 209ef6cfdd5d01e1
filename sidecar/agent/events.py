"""Events on the pod and on the node: who took or gave up a VIP, and why, where people look first; settings refused.

Best effort, and never many: what happens again within some minutes becomes a higher count of the same Event, and the
rest waits for its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_interface

from sidecar.agent.context import Context
from sidecar.agent.desired import Pod
from sidecar.agent.errors import ApiError
from sidecar.agent.retry import Loop
from sidecar.agent.transport import JSON, MERGE_PATCH, Call, Transport
from sidecar.ipc.messages import GroupRole, MirroredGroup, SettingsStatus, Snapshot
from sidecar.protocol.types import Reason, Role

COMPONENT = "carp-sidecar"
SAME_FOR = 600.0
"""Seconds within which the same thing is the same Event."""
AT_ONCE = 10.0
"""Requests in a row; after them one each second."""
OLD_NEWS = 60.0
"""Seconds after which a takeover that an agent finds when it starts was told by the agent before."""
WAITING_AT_MOST = 256
OF_NODES = "default"
"""The namespace of Events on what belongs to none itself: the API server takes them there, and `kubectl describe node`
looks for no others."""
NOTE_AT_MOST = 1000
"""Characters; the API server takes 1024 bytes in its newer form of Events."""

_POD, _NODE = "Pod", "Node"
_TROUBLE = frozenset({Reason.LINK_DOWN, Reason.WOKE_LATE, Reason.BIND_FAILED, Reason.LEASE_UNANSWERED})


@dataclass(frozen=True, slots=True)
class News:
    """Something to tell. ``reason`` is one word in UpperCamelCase, ``note`` a sentence, ``about`` whose news it is."""

    reason: str
    note: str
    about: str
    at: float
    warning: bool = False


@dataclass(slots=True)
class _Event:
    """One Event object: how often the same was told, and how much of it the server knows."""

    name: str
    reason: str
    kind: str
    warning: bool
    first: float
    note: str = ""
    last: float = 0.0
    count: int = 0
    told: int = 0


def news_of(before: GroupRole | None, after: GroupRole, group: MirroredGroup) -> News | None:
    """Return what there is to tell of a group whose role was another one, or None."""
    vips = ", ".join(str(ip_interface(vip).ip) for vip in group.vips)
    noun = "VIP" if len(group.vips) == 1 else "VIPs"
    why = after.detail or after.reason
    if after.role == Role.MASTER:
        return News("TookVIP", f"took the {noun} {vips}: {why}", group.name, after.since)
    if before is not None and before.role == Role.MASTER:
        warning = after.reason in _TROUBLE
        return News("GaveUpVIP", f"gave up the {noun} {vips}: {why}", group.name, after.since, warning)
    return None


def settings_news(before: SettingsStatus | None, after: SettingsStatus, *, now: float) -> News | None:
    """Return what there is to tell of the settings at ``now`` (Unix seconds), or None.

    What stands since the agent started, was told by the agent before: then it bears that moment, by which the server
    knows it.
    """
    if before is not None and (before.errors, before.refused_until) == (after.errors, after.refused_until):
        return None
    if after.refused_since is not None:
        others = len(after.errors) - 1
        note = "newer settings are refused, the old ones stay in force: " + "".join(after.errors[:1])
        note += f" (and {others} more)" if others > 0 else ""
        again = before is not None and before.refused_since == after.refused_since
        return News(
            "SettingsRefused", note[:NOTE_AT_MOST], "settings", now if again else after.refused_since, warning=True
        )
    if after.refused_until is None or now - after.refused_until > OLD_NEWS:
        return None
    return News("SettingsAccepted", "the settings are good again and in force", "settings", after.refused_until)


class Events:
    """``offer`` takes snapshots, ``settings`` what became of newer ones, ``tell`` the rest, ``identify`` the pod."""

    def __init__(self, transport: Transport, context: Context) -> None:
        self._transport = transport
        self._context = context
        self._groups = {group.name: group for group in context.groups}
        self._roles: dict[str, GroupRole] = {}
        self._events: dict[tuple[str, str, str], _Event] = {}
        self._settings: SettingsStatus | None = None
        self._pod: Pod | None = None
        self._turns, self._turns_at = AT_ONCE, 0.0
        # Two, since what is on the node may need a right of its own: where that is missing the pod's go on.
        self._said = {kind: asyncio.Event() for kind in (_POD, _NODE)}
        self._loops = {kind: self._telling(kind) for kind in (_POD, _NODE)}

    def offer(self, snapshot: Snapshot) -> None:
        """Tell what a snapshot has of news."""
        for after in snapshot.groups:
            before = self._roles.get(after.name)
            self._roles[after.name] = after
            known = before is not None and (before.since, before.transitions) == (after.since, after.transitions)
            stale = before is None and self._context.wall() - after.since > OLD_NEWS
            news = None if known or stale else news_of(before, after, self._groups[after.name])
            if news is not None:
                self.tell(news)

    def settings(self, status: SettingsStatus) -> None:
        """Tell that settings are refused, or are not any more."""
        before, self._settings = self._settings, status
        news = settings_news(before, status, now=self._context.wall())
        if news is not None:
            self.tell(news)

    def identify(self, pod: Pod | None) -> None:
        """Take the pod that Events are about, with the uid by which `kubectl describe` finds them."""
        if pod is not None and self._pod is None:
            self._loops[_POD].wake()
        self._pod = pod

    def tell(self, news: News) -> None:
        """Have something told on the pod and on the node."""
        for kind in (_POD, _NODE):
            key = (kind, news.reason, news.about)
            event = self._events.get(key)
            if event is None or news.at - event.first > SAME_FOR:
                if event is not None and event.told < event.count:
                    self._context.status.events_dropped += event.count - event.told
                event = self._events[key] = _Event(
                    name=self._name(news, kind), reason=news.reason, kind=kind, warning=news.warning, first=news.at
                )
            event.note, event.last, event.count = news.note, news.at, event.count + 1
        while len(self._events) > WAITING_AT_MOST:
            dropped = self._events.pop(next(iter(self._events)))
            self._context.status.events_dropped += dropped.count - dropped.told
        self._wake()

    async def run(self) -> None:
        """Tell until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for loop in self._loops.values():
                tasks.create_task(loop.run())

    def _telling(self, kind: str) -> Loop:
        complaints = self._context.complaints
        about = f"events on the {kind.lower()}"
        return Loop(
            lambda: self._work(kind), failed=lambda error: complaints.note(about, error), jitter=self._context.jitter
        )

    def _wake(self) -> None:
        for loop in self._loops.values():
            loop.wake()

    async def _work(self, kind: str) -> None:
        for event in list(self._events.values()):
            if event.kind == kind and event.told < event.count and (self._pod is not None or kind == _NODE):
                await self._take_turn()
                count = event.count
                await self._write(event, count)
                event.told = count
        self._said[kind].set()

    async def _take_turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self._turns = min(AT_ONCE, self._turns + now - self._turns_at)
        self._turns_at = now
        self._turns -= 1.0
        if self._turns < 0.0:
            await asyncio.sleep(-self._turns)

    async def say_the_last(self, seconds: float) -> None:
        """Wait until everything is told, at most so long."""
        for said in self._said.values():
            said.clear()
        self._wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for said in self._said.values():
                    await said.wait()

    async def _write(self, event: _Event, count: int) -> None:
        latest = {"count": count, "lastTimestamp": _time(event.last), "message": event.note}
        if event.told:
            try:
                await self._transport.request(self._call("patch", event, latest))
            except ApiError as error:
                if error.status != HTTPStatus.NOT_FOUND:  # Events expire after an hour
                    raise
            else:
                return
        try:
            await self._transport.request(self._call("create", event, self._document(event) | latest))
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:  # it is there: the answer was lost, or the agent before wrote it
                raise

    def _document(self, event: _Event) -> dict[str, object]:
        plan, node, namespace = self._context.plan, self._context.node, self._namespace(event)
        if event.kind == _POD and self._pod is not None:
            about = {"kind": "Pod", "apiVersion": "v1", "name": self._pod.name, "uid": self._pod.uid}
        else:  # as the kubelet has it
            about = {"kind": "Node", "apiVersion": "v1", "name": node, "uid": node}
        if event.kind == _POD or namespace != OF_NODES:  # without it the server takes it in no other
            about["namespace"] = namespace
        return {
            "metadata": {"name": event.name, "namespace": namespace},
            "involvedObject": about,
            "type": "Warning" if event.warning else "Normal",
            "reason": event.reason,
            "firstTimestamp": _time(event.first),
            "source": {"component": COMPONENT, "host": node},
            "reportingComponent": COMPONENT,
            "reportingInstance": plan.pod_name,
        }

    def _name(self, news: News, kind: str) -> str:
        """Return a name that an agent which starts anew would give the same thing, too."""
        told = f"{self._context.plan.pod_namespace} {kind} {news.reason} {news.about} {news.at:.6f}"
        return f"{self._context.plan.pod_name[:200]}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def _namespace(self, event: _Event) -> str:
        plan = self._context.plan
        return OF_NODES if event.kind == _NODE and plan.node_events else plan.pod_namespace

    def _call(self, verb: str, event: _Event, body: dict[str, object]) -> Call:
        namespace = self._namespace(event)
        path = f"/api/v1/namespaces/{namespace}/events"
        return Call(
            verb=verb,
            resource="events",
            path=path if verb == "create" else f"{path}/{event.name}",
            what=f"an Event in namespace {namespace}",
            body=body,
            content_type=MERGE_PATCH if verb == "patch" else JSON,
        )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
