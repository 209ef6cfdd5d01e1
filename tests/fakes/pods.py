"""A namespace of pods in memory, as ``PodApi`` sees it, with failures on demand and every write on record."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace

from sidecar.agent.desired import Metadata, Pod
from sidecar.agent.errors import ApiError
from sidecar.agent.follow import Change, Listed, Which
from sidecar.demo.selectors import selector

REMEMBERED = 1000


@dataclass(frozen=True)
class Write:
    """One patch that was taken, and who made it."""

    pod: str
    said: Metadata
    by: str


@dataclass
class FakePods:
    """The API server; ``client`` is one agent's way to it."""

    pods: dict[str, Pod] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    failures: list[ApiError] = field(default_factory=list)
    """Raised by the next calls, one each."""
    down: ApiError | None = None
    """Raised by every call, and by the watches that run."""
    troubles: dict[str, list[ApiError]] = field(default_factory=dict)
    """Raised by the next writes to the pod of that name, one each."""
    forbidden: frozenset[str] = frozenset()
    """Verbs, or verb and resource, that answer 403."""
    unwritable: str = ""
    """An annotation that no write may have, as a webhook would."""
    writes: list[Write] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    history: list[frozenset[str]] = field(default_factory=list)
    """Who said master after each change."""
    version: int = 100
    _log: list[tuple[int, Pod | None, Pod | None]] = field(default_factory=list)
    _waiting: list[asyncio.Event] = field(default_factory=list)

    def client(self, name: str = "a") -> FakeClient:
        return FakeClient(self, name)

    def add(
        self,
        name: str,
        labels: Mapping[str, str] = {},
        annotations: Mapping[str, str] = {},
        *,
        node: str = "",
        uid: str = "",
        **changes: object,
    ) -> Pod:
        """Make a pod, or one of another uid where there is one of that name already."""
        if name in self.pods:
            self.remove(name)
        self.nodes[name] = node or f"node-{name}"
        pod = Pod(
            name=name,
            uid=uid or f"{name}-{self.version}",
            resource_version="",
            labels=dict(labels),
            annotations=dict(annotations),
        )
        return self._commit(None, replace(pod, **changes))  # type: ignore[arg-type]

    def edit(self, name: str, labels: Mapping[str, str | None] = {}, **changes: object) -> None:
        """Somebody else changes a pod; None takes a label away."""
        pod = self.pods[name]
        self._commit(pod, replace(pod, labels=_merged(pod.labels, labels), **changes))  # type: ignore[arg-type]

    def remove(self, name: str) -> None:
        self._commit(self.pods[name], None)

    def masters(self, label: str = "carp-role") -> list[str]:
        return sorted(name for name, pod in self.pods.items() if pod.labels.get(label) == "master")

    def expire(self) -> None:
        """Forget the changes so far: a watch from before is too old."""
        self._log.clear()
        self.version += REMEMBERED

    def end_watches(self) -> None:
        """Wake the watches, so that they notice ``down``."""
        for event in self._waiting:
            event.set()

    def check(self, *words: str) -> None:
        self.calls[words[0]] += 1
        if self.down is not None:
            raise self.down
        if self.failures:
            raise self.failures.pop(0)
        if forbidden := self.forbidden & {words[0], " ".join(words)}:
            right = min(forbidden)
            raise ApiError(f"the right to {right} is missing (403)", 403, right=right)

    def matching(self, which: Which, pods: Iterable[Pod]) -> list[Pod]:
        wanted = selector(which.labels, which.fields)
        return [pod for pod in pods if wanted(self._document(pod))]

    def patch(self, by: str, pod: Pod, said: Metadata, *, unchanged: bool) -> Pod:
        if troubles := self.troubles.get(pod.name):
            raise troubles.pop(0)
        if self.unwritable in said.annotations:
            raise ApiError("the API server answers 422: the admission webhook says no", 422)
        now = self.pods.get(pod.name)
        if now is None:
            raise ApiError(f"pod {pod.name} is not there (404)", 404)
        if pod.uid != now.uid or (unchanged and pod.resource_version != now.resource_version):
            raise ApiError("the API server answers 409: the object has been modified", 409)
        self.writes.append(Write(pod.name, said, by))
        return self._commit(
            now,
            replace(
                now,
                labels=_merged(now.labels, said.labels),
                annotations=_merged(now.annotations, said.annotations),
                conditions=_merged(
                    now.conditions,
                    {**{each.type: each.status for each in said.conditions}, **dict.fromkeys(said.without)},
                ),
            ),
        )

    async def changes(self, which: Which, after: int, *, seconds: float) -> AsyncIterator[Change[Pod]]:
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        event = asyncio.Event()
        self._waiting.append(event)
        try:
            while True:
                if self.down is not None:
                    raise self.down
                if after < self.version - REMEMBERED:
                    raise ApiError("too old resource version", 410)
                for version, before, now in [entry for entry in self._log if entry[0] > after]:
                    after = version
                    was = bool(before and self.matching(which, [before]))
                    if now is not None and self.matching(which, [now]):
                        yield Change(str(version), now)
                    elif was and before is not None:
                        yield Change(str(version), replace(before, resource_version=str(version)), gone=True)
                event.clear()
                if loop.time() >= ends:
                    return
                try:
                    async with asyncio.timeout(ends - loop.time()):
                        await event.wait()
                except TimeoutError:
                    return
        finally:
            self._waiting.remove(event)

    def _document(self, pod: Pod) -> dict[str, object]:
        return {
            "metadata": {"name": pod.name, "labels": dict(pod.labels)},
            "spec": {"nodeName": self.nodes[pod.name]},
        }

    def _commit(self, before: Pod | None, after: Pod | None) -> Pod:
        self.version += 1
        name = (after or before).name  # type: ignore[union-attr]
        if after is None:
            del self.pods[name]
            pod = before
        else:
            pod = self.pods[name] = after = replace(after, resource_version=str(self.version))
        self._log.append((self.version, before, after))
        del self._log[:-REMEMBERED]
        self.history.append(frozenset(self.masters()))
        self.end_watches()
        assert pod is not None
        return pod


def _merged(now: Mapping[str, str], said: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in {**now, **said}.items() if value is not None}


@dataclass
class FakeClient:
    """PodApi, as one agent has it. ``delay`` seconds until anything arrives, ``back`` until the answer does.

    ``cut``: nothing does; ``deaf``: what it asks and writes does, and no answer comes back; ``silent``: watches go on
    and tell nothing.
    """

    server: FakePods
    name: str
    cut: bool = False
    deaf: bool = False
    silent: bool = False
    delay: float = 0.0
    back: float = 0.0

    async def list(self, which: Which) -> Listed[Pod]:
        await self._arrive("list", "pods")
        listed = Listed(tuple(self.server.matching(which, self.server.pods.values())), str(self.server.version))
        await self._return()
        return listed

    async def watch(self, which: Which, version: str, *, seconds: int) -> AsyncIterator[Change[Pod]]:
        await self._arrive("watch", "pods")
        await self._return()
        yield Change("")
        async for change in self.server.changes(which, int(version), seconds=seconds):
            self._hear()
            if not self.silent:
                yield change

    async def patch(self, pod: Pod, said: Metadata, *, unchanged: bool = False) -> Pod:
        await self._arrive("patch", "pods/status" if said.conditions or said.without else "pods")
        after = self.server.patch(self.name, pod, said, unchanged=unchanged)
        await self._return()
        return after

    async def _arrive(self, *words: str) -> None:
        await asyncio.sleep(self.delay)
        if self.cut:
            raise ApiError("the API server cannot be reached: cut")
        self.server.check(*words)

    async def _return(self) -> None:
        if self.back:
            await asyncio.sleep(self.back)
        self._hear()

    def _hear(self) -> None:
        if self.cut:
            raise ApiError("the API server cannot be reached: cut")
        if self.deaf:
            raise ApiError("the API server does not answer in time")
