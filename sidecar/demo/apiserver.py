"""A stand-in for the Kubernetes API server: pods in memory, over real HTTP on loopback, enough for kubectl.

It knows neither users nor rights, and nothing but pods: get, list, watch, create, patch and delete.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from sidecar.demo.patches import JSON_PATCH, MERGE, STRATEGIC
from sidecar.demo.selectors import Pod, Selector, SelectorError, selector
from sidecar.demo.store import PodStore, StatusError, Target
from sidecar.demo.table import pod_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Document = dict[str, Any]

VERSION = "v1.36.0-stand-in"

_PODS = re.compile(r"/api/v1(/namespaces/(?P<namespace>[^/]+))?/pods(/(?P<name>[^/]+)(/(?P<status>status))?)?")
_MAXIMUM_BODY = 3 * 1024 * 1024  # bytes, as the real one has it
_WATCH_TURN = 1.0  # seconds
_NAMESPACE = re.compile(r"/api/v1/namespaces/(?P<name>[^/]+)")
_DISCOVERY: dict[str, Document] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {
                "name": "pods",
                "singularName": "pod",
                "shortNames": ["po"],
                "namespaced": True,
                "kind": "Pod",
                "verbs": ["create", "delete", "get", "list", "patch", "watch"],
            },
            {"name": "pods/status", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get", "patch"]},
        ],
    },
    "/version": {
        "major": "1",
        "minor": "36",
        "gitVersion": VERSION,
        **dict.fromkeys(("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"), ""),
    },
}


class ApiServer:
    """The stand-in, there from ``with`` to its end. Every connection is served by a thread of its own."""

    def __init__(self) -> None:
        self.store = PodStore()
        self._server: _Server

    def __enter__(self) -> Self:
        self._server = _Server(self.store)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="apiserver", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return self._server.server_port

    def write_kubeconfig(self, path: Path, *, namespace: str = "default", server: str = "") -> Path:
        """Write a kubeconfig and return its path; ``server`` is the URL where it is reached by another."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "carp", "cluster": {"server": server or f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "carp", "user": {}}],
            "contexts": [{"name": "carp", "context": {"cluster": "carp", "user": "carp", "namespace": namespace}}],
            "current-context": "carp",
        }
        path.write_text(json.dumps(config, indent=1))  # JSON is YAML
        return path


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them

    def __init__(self, store: PodStore) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = store
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 -- as the base class has it
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that are open, else their threads would wait for the next request."""
        with self._open_lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing of clients that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves in one piece; in two, the second waits for the client's delayed ACK
    server: _Server

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- as the base class has it
        """Say nothing: the terminal is the demo's."""

    def _answer(self, action: Callable[[bytes], tuple[int, Document] | None]) -> None:
        try:
            answer = action(self._body())
        except StatusError as error:
            answer = error.code, error.document()
        if answer is not None:
            code, document = answer
            data = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def _get(self, _: bytes) -> tuple[int, Document] | None:
        path = urlsplit(self.path).path.rstrip("/")
        if path in _DISCOVERY:
            return 200, _DISCOVERY[path]
        if match := _NAMESPACE.fullmatch(path):  # kubectl looks before it says that a pod is not found; each is there
            return 200, {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": match["name"]}}
        target, wanted = self._target(), self._selector()
        if target.name:
            pod = self.server.store.get(target)
            return 200, self._as_table([pod], pod["metadata"]["resourceVersion"]) if self._wants_table() else pod
        if self._parameter("watch") in {"true", "1"}:
            self._watch(target.namespace, wanted)
            return None
        pods, version = self.server.store.list(target.namespace, wanted)
        if self._wants_table():
            return 200, self._as_table(pods, str(version))
        metadata = {"resourceVersion": str(version)}
        return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": pods}

    def _post(self, body: bytes) -> tuple[int, Document]:
        target, pod = self._target(), _parse(body)
        if target.name or not target.namespace or not isinstance(pod, dict):
            raise StatusError(400, "BadRequest", "a pod is created in a namespace's collection of pods")
        return 201, self.server.store.create(target.namespace, pod)

    def _patch(self, body: bytes) -> tuple[int, Document]:
        target, kind = self._named_target(), self.headers.get_content_type()
        if kind not in {JSON_PATCH, MERGE, STRATEGIC}:
            raise StatusError(415, "UnsupportedMediaType", f"the stand-in takes no patch of type {kind}")
        patch = _parse(body)
        return 200, self.server.store.patch(target, kind=kind, patch=patch)

    def _delete(self, _: bytes) -> tuple[int, Document]:
        return 200, self.server.store.delete(self._named_target())

    def _watch(self, namespace: str | None, wanted: Selector) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for event in self._events(namespace, wanted):
            if self._wants_table() and event["type"] != "ERROR":
                pod = event["object"]
                event["object"] = self._as_table([pod], pod["metadata"]["resourceVersion"])
            self._chunk(json.dumps(event).encode() + b"\n")
        self._chunk(b"")

    def _events(self, namespace: str | None, wanted: Selector) -> Iterator[Document]:
        """Yield watch events until the client leaves, its time is over or the server stops."""
        store = self.server.store
        deadline = time.monotonic() + float(self._parameter("timeoutSeconds") or "inf")
        version = int(self._parameter("resourceVersion") or 0)
        if version == 0:
            pods, version = store.list(namespace, wanted)
            yield from ({"type": "ADDED", "object": pod} for pod in pods)
        while not store.closed and time.monotonic() < deadline and not self._client_left():
            try:
                changes = store.wait(version, timeout=min(_WATCH_TURN, deadline - time.monotonic()))
            except StatusError as error:
                yield {"type": "ERROR", "object": error.document()}
                return
            for change in changes:
                version = change.version
                if namespace in {None, change.namespace} and (event := change.event(wanted)):
                    yield event

    def _client_left(self) -> bool:
        readable = select.select([self.connection], [], [], 0)[0]
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _MAXIMUM_BODY:
            self.close_connection = True  # what it goes on to send is no request
            raise StatusError(413, "RequestEntityTooLarge", f"{length} bytes, at most {_MAXIMUM_BODY} are taken")
        return self.rfile.read(length)

    def _target(self) -> Target:
        match = _PODS.fullmatch(urlsplit(self.path).path)
        if not match:
            raise StatusError(404, "NotFound", "the server could not find the requested resource")
        return Target(match["namespace"], match["name"], status=match["status"] is not None)

    def _named_target(self) -> Target:
        target = self._target()
        if not target.name:
            raise StatusError(405, "MethodNotAllowed", "the server does not allow this on a collection of pods")
        return target

    def _selector(self) -> Selector:
        try:
            return selector(self._parameter("labelSelector"), self._parameter("fieldSelector"))
        except SelectorError as error:
            raise StatusError(400, "BadRequest", str(error)) from error

    def _parameter(self, name: str) -> str:
        return parse_qs(urlsplit(self.path).query).get(name, [""])[0]

    def _wants_table(self) -> bool:
        return "as=Table" in self.headers.get("Accept", "")

    def _as_table(self, pods: list[Pod], version: str) -> Document:
        return pod_table(pods, resource_version=version, include=self._parameter("includeObject"))


def _parse(body: bytes) -> Any:  # noqa: ANN401 -- any JSON value
    try:
        return json.loads(body)
    except ValueError as error:
        raise StatusError(400, "BadRequest", f"the body is not JSON: {error}") from error
