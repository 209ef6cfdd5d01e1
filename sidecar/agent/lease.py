"""The Lease as a witness: who became master of a group, when, how often that changed. It elects nobody.

Written by the new master when it takes over and at no other time, so it costs nothing while all is well; whoever wants
to know whether the master is alive asks the network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec

from sidecar.agent.api import decode
from sidecar.agent.context import Context
from sidecar.agent.desired import PREFIX
from sidecar.agent.errors import ApiError
from sidecar.agent.reconciler import Mastered
from sidecar.agent.retry import Failures, Loop
from sidecar.agent.transport import JSON, MERGE_PATCH, Call, Transport

EPOCH = f"{PREFIX}epoch"


class _Metadata(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    annotations: dict[str, str] = {}


class _Spec(msgspec.Struct):
    holder: str | None = msgspec.field(name="holderIdentity", default=None)
    transitions: int | None = msgspec.field(name="leaseTransitions", default=None)


class _Lease(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


class Witness:
    """Writes one Lease for each group. ``known`` is told of the epochs that Leases have: claims have to be newer."""

    def __init__(self, transport: Transport, context: Context, known: Callable[[str, int], None]) -> None:
        self._transport = transport
        self._namespace = context.plan.pod_namespace
        self._known = known
        self._wanted: tuple[Mastered, ...] = ()
        self._done: dict[str, tuple[str, int]] = {}
        self._loop = Loop(
            self._work, failed=lambda error: context.complaints.note("lease", error), jitter=context.jitter
        )

    def follow(self, mastered: tuple[Mastered, ...]) -> None:
        """Take the groups that this node is master of."""
        self._wanted = mastered
        self._loop.wake()

    async def run(self) -> None:
        """Write until cancelled."""
        await self._loop.run()

    async def _work(self) -> None:
        failures = Failures()
        for each in self._wanted:
            claim = (each.holder, each.epoch)
            if self._done.get(each.group.name) != claim:
                with failures:
                    await self._write(each)
                    self._done[each.group.name] = claim
        failures.throw()

    async def _write(self, each: Mastered) -> None:
        name = f"carp-sidecar-{each.group.name}"
        found = await self._read(name)
        if found is None:
            body = self._body(each, transitions=0)
            body["metadata"] = {**_object(body["metadata"]), "name": name}
            await self._transport.request(self._call("create", "", name, body))
            return
        epoch = number(found.metadata.annotations.get(EPOCH, ""))
        if epoch > each.epoch:
            self._known(each.group.name, epoch)  # somebody took over later, or the pods that told of it are gone
            return
        if (found.spec.holder, epoch) == (each.holder, each.epoch):
            return
        changed = found.spec.holder != each.holder
        body = self._body(each, transitions=(found.spec.transitions or 0) + changed)
        body["metadata"] = {**_object(body["metadata"]), "resourceVersion": found.metadata.resource_version}
        await self._transport.request(self._call("patch", f"/{name}", name, body))

    async def withdraw(self, group: str, holders: Collection[str]) -> None:
        """Have the Lease of a group that is not witnessed any more name nobody, if it names one of these pods."""
        name = f"carp-sidecar-{group}"
        found = await self._read(name)
        if found is not None and found.spec.holder in holders:
            body: dict[str, object] = {
                "metadata": {"resourceVersion": found.metadata.resource_version},
                "spec": {"holderIdentity": None},
            }
            await self._transport.request(self._call("patch", f"/{name}", name, body))

    async def _read(self, name: str) -> _Lease | None:
        try:
            lease: _Lease = decode(await self._transport.request(self._call("get", f"/{name}", name)), _Lease)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return None
        return lease

    def _body(self, each: Mastered, *, transitions: int) -> dict[str, object]:
        since = datetime.fromtimestamp(each.role.since, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "metadata": {
                "annotations": {EPOCH: str(each.epoch), f"{PREFIX}node": each.node, f"{PREFIX}reason": each.role.reason}
            },
            "spec": {
                "holderIdentity": each.holder,
                "acquireTime": since,
                "renewTime": since,
                "leaseTransitions": transitions,
            },
        }

    def _call(self, verb: str, suffix: str, name: str, body: dict[str, object] | None = None) -> Call:
        return Call(
            verb=verb,
            resource="leases",
            path=f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases{suffix}",
            what=f"Lease {self._namespace}/{name}",
            body=body,
            content_type=MERGE_PATCH if verb == "patch" else JSON,
        )


def number(text: str) -> int:
    """Return an epoch, 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0


def _object(value: object) -> dict[str, object]:
    assert isinstance(value, dict)  # noqa: S101 - narrowing
    return value
