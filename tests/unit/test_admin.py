from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from sidecar.demo.admin import Access, Admin, ApiError, write_secret
from sidecar.demo.certificates import make_server_identity

TOKEN = "secret-token"
FORBIDDEN = {"kind": "Status", "reason": "Forbidden", "message": "no such right"}


class Handler(BaseHTTPRequestHandler):
    """Answers each path with something of its own kind."""

    def do_GET(self) -> None:
        match self.path:
            case "/echo":
                self.answer(200, json.dumps(dict(self.headers)).encode())
            case "/forbidden":
                self.answer(403, json.dumps(FORBIDDEN).encode())
            case "/gateway":
                self.answer(502, b"<html>bad gateway</html>")
            case "/readyz":
                self.answer(200, b"ok")
            case "/cut":
                self.answer(200, b"{", length=100)

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, json.dumps({"type": self.headers["Content-Type"], "body": json.loads(body)}).encode())

    def do_POST(self) -> None:
        self.do_PATCH()

    def answer(self, status: int, body: bytes, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    directory = tmp_path_factory.mktemp("server")
    identity = make_server_identity(["127.0.0.1"])
    (directory / "crt").write_bytes(identity.certificate)
    (directory / "key").write_bytes(identity.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "crt", directory / "key")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Admin(Access(f"https://127.0.0.1:{server.server_port}", identity.ca.decode(), TOKEN))
        server.shutdown()
        thread.join()


def test_a_call_carries_the_token_or_another_or_none(admin: Admin) -> None:
    assert admin.request("GET", "/echo")["Authorization"] == f"Bearer {TOKEN}"
    assert admin.request("GET", "/echo", token="other")["Authorization"] == "Bearer other"
    assert "Authorization" not in admin.request("GET", "/echo", token="")


@pytest.mark.parametrize(("method", "kind"), [("POST", "application/json"), ("PATCH", "application/merge-patch+json")])
def test_a_body_is_json_and_a_patch_merges(admin: Admin, method: str, kind: str) -> None:
    assert admin.request(method, "/", {"a": None}) == {"type": kind, "body": {"a": None}}


def test_an_error_names_the_call_and_the_servers_reason(admin: Admin) -> None:
    with pytest.raises(ApiError) as refusal:
        admin.request("GET", "/forbidden")
    assert str(refusal.value) == "GET /forbidden: 403 Forbidden: no such right"
    assert (refusal.value.status, refusal.value.reason) == (403, "Forbidden")


def test_an_error_that_is_no_json_shows_what_came(admin: Admin) -> None:
    with pytest.raises(ApiError, match="502 : <html>bad gateway</html>"):
        admin.request("GET", "/gateway")


def test_an_answer_that_is_no_object_is_there_as_bytes(admin: Admin) -> None:
    assert admin.send("GET", "/readyz") == (200, b"ok")
    assert admin.request("GET", "/readyz") == {}


def test_an_answer_that_is_cut_short_is_a_lost_connection(admin: Admin) -> None:
    with pytest.raises(ConnectionError, match="GET /cut: IncompleteRead"):
        admin.request("GET", "/cut")


def test_no_repr_shows_the_token(admin: Admin) -> None:
    assert repr(admin.access) == f"Access(server={admin.access.server!r})"


def test_a_kubeconfig_is_yaml_that_names_server_ca_and_token(tmp_path: Path) -> None:
    admin = Admin(Access("https://127.0.0.1:1", "the CA", TOKEN))

    path = admin.write_kubeconfig(tmp_path / "config", "other", server="https://192.0.2.1:6443")

    config = yaml.safe_load(path.read_text())
    (cluster,) = config["clusters"]
    (user,) = config["users"]
    (context,) = config["contexts"]
    assert cluster["cluster"] == {
        "server": "https://192.0.2.1:6443",
        "certificate-authority-data": base64.b64encode(b"the CA").decode(),
        "tls-server-name": "kubernetes",
    }
    assert user["user"] == {"token": "other"}
    assert config["current-context"] == context["name"]
    assert context["context"] == {"cluster": cluster["name"], "user": user["name"]}


def test_a_secret_is_its_owners_alone_even_where_an_older_file_was_everybodys(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("a longer text than the new one")
    path.chmod(0o666)

    write_secret(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
