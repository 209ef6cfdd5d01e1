"""What the HTTP listener tells, path by path. It only reads, and it holds no secret that could get out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from sidecar.agent import metrics
from sidecar.agent.metrics import Facts
from sidecar.agent.page import page, policy
from sidecar.agent.pods import Pods
from sidecar.agent.question import Engine, NoAnswerError
from sidecar.agent.state import MirrorStatus
from sidecar.ipc.messages import StatusReply
from sidecar.observe.moment import rfc3339
from sidecar.observe.status import as_document
from sidecar.protocol.types import Role

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: HTTP status, media type, body, and headers beside the usual ones."""

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str]


def _text(status: int, line: str) -> Answer:
    return Answer(status, TEXT, f"{line}\n".encode(), {})


class Site:
    """``engine`` tells how the groups stand; ``mirror`` and ``pods`` are None where Kubernetes is off.

    ``wall`` is in Unix seconds: a reader's own clock may be off.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        mirror: MirrorStatus | None = None,
        pods: Pods | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._mirror = mirror
        self._pods = pods
        self._wall = wall

    async def get(self, path: str) -> Answer:
        """Return what stands at ``path``."""
        match path:
            case "/":
                answer = Answer(200, HTML, page(), {"Content-Security-Policy": policy()})
            case "/healthz":
                answer = await self._healthz()
            case "/readyz":
                answer = await self._readyz()
            case "/metrics":
                answer = await self._metrics()
            case "/status":
                answer = await self._status()
            case "/pods" if self._pods is not None:
                answer = Answer(200, JSON, msgspec.json.encode(await self._pods.look()), {})
            case _:
                answer = _text(404, "nothing here; there are / /healthz /readyz /metrics /status, in Kubernetes /pods")
        return answer

    async def _healthz(self) -> Answer:
        """Tell whether the engine turns its loop: a dead one is started anew by its parent, a stuck one by the kubelet.

        Whether the API server answers is no question here: it would have the kubelet kill a healthy master.
        """
        try:
            await self._engine.status()
        except NoAnswerError as error:
            return _text(503, str(error))
        return _text(200, "ok")

    async def _readyz(self) -> Answer:
        """Tell whether each group takes part in its election, as whatever: a backup is as ready as a master."""
        try:
            reply = await self._engine.status()
        except NoAnswerError as error:
            return _text(503, str(error))
        idle = [f"group {group.name} is {group.role}: {group.detail}" for group in reply.groups if _is_out(group.role)]
        return _text(503, "\n".join(idle)) if idle else _text(200, "ok")

    async def _status(self) -> Answer:
        try:
            reply = await self._engine.status()
        except NoAnswerError as error:
            return Answer(503, JSON, msgspec.json.encode({"error": str(error)}), {})
        now = self._wall()
        mirror = None if self._mirror is None else self._mirror.document(now)
        document = {"time": rfc3339(now), **as_document(reply), "mirror": mirror}
        return Answer(200, JSON, msgspec.json.encode(document), {})

    async def _metrics(self) -> Answer:
        reply: StatusReply | None
        try:
            reply = await self._engine.status()
        except NoAnswerError:
            reply = None
        text = metrics.render(Facts(status=reply, mirror=self._mirror, now=self._wall()))
        return Answer(200, metrics.CONTENT_TYPE, text.encode(), {})


def _is_out(role: str) -> bool:
    return role == Role.INIT
