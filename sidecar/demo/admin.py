"""The few calls that set a stage on a Kubernetes API server: namespaces, nodes, pods, accounts, kubeconfigs.

Plain HTTPS with a bearer token and the server's own CA, so that the demo and the tests need no client library.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# What the server's certificate names, whatever address a client reaches it by.
TLS_SERVER_NAME = "kubernetes"

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_TOKEN_LIFETIME = 24 * 3600  # seconds
_RULES_DEADLINE = 15.0  # seconds until a fresh RoleBinding must have reached the authorizer


class ApiError(RuntimeError):
    """The server answered with an error: ``status`` is the HTTP status, ``reason`` Kubernetes' own word for it."""

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an API server: ``server`` is ``https://address:port``, ``ca`` its CA as PEM text."""

    server: str
    ca: str
    token: str

    def __repr__(self) -> str:
        """Name the server without the token."""
        return f"Access(server={self.server!r})"


class Admin:
    """Calls with an administrator's rights. Every method raises ApiError, or OSError where nobody answers in time."""

    def __init__(self, access: Access) -> None:
        self._access = access

    @property
    def access(self) -> Access:
        """Where the server is and whom these calls are made as."""
        return self._access

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> dict[str, Any]:
        """Return the object that the server answers with; ``token`` makes the call as somebody else ("": anonymous).

        ``body`` is JSON. A PATCH is a JSON merge patch.
        """
        status, answer = self.send(method, path, body, token=token, timeout=timeout)
        document = _as_object(answer)
        if status >= 400:
            reason = str(document.get("reason", ""))
            detail = str(document.get("message", "")) or answer[:200].decode(errors="replace")
            raise ApiError(f"{method} {path}: {status} {reason}: {detail}", status=status, reason=reason)
        return document

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> tuple[int, bytes]:
        """Like ``request``, but return the HTTP status and the bytes as they are."""
        token = self._access.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        url = urlsplit(self._access.server)
        context = ssl.create_default_context(cadata=self._access.ca)
        connection = HTTPSConnection(url.hostname or "", url.port, timeout=timeout, context=context)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        except HTTPException as error:  # the server went away in the middle of an answer
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()

    def create_namespace(self, name: str) -> dict[str, Any]:
        """Make a namespace and return it."""
        return self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def create_node(self, name: str) -> dict[str, Any]:
        """Make a node that no kubelet runs on, and return it."""
        return self.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})

    def create_pod(
        self,
        namespace: str,
        name: str,
        *,
        node: str,
        labels: Mapping[str, str] | None = None,
        gates: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Make the smallest pod that is valid, bound to ``node`` (which need not exist), and return it.

        ``gates`` are the conditions that its readiness waits for.
        """
        pod = {
            "metadata": {"name": name, "labels": dict(labels or {})},
            "spec": {
                "nodeName": node,
                "automountServiceAccountToken": False,
                "containers": [{"name": "app", "image": "app"}],
                "readinessGates": [{"conditionType": gate} for gate in gates],
            },
        }
        return self.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)

    def get_pod(self, namespace: str, name: str) -> dict[str, Any]:
        """Return one pod."""
        return self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")

    def list_pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Return the namespace's pods that ``selector`` (``carp-role=master``) matches, by name."""
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={quote(selector)}"
        pods: list[dict[str, Any]] = self.request("GET", path)["items"]
        return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))

    def create_account(self, namespace: str, name: str, *, rules: Sequence[Mapping[str, Any]]) -> str:
        """Make a ServiceAccount, a Role with ``rules`` and their RoleBinding, all of that name; return a token for it.

        Returns once the server acts on the rules, since its authorizer learns of a new binding a moment late. Raises
        TimeoutError where it never does.
        """
        account = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        roles = f"{_RBAC}/namespaces/{namespace}"
        metadata = {"name": name}
        binding = {
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }
        self.request("POST", account, {"metadata": metadata})
        self.request("POST", f"{roles}/roles", {"metadata": metadata, "rules": list(rules)})
        self.request("POST", f"{roles}/rolebindings", binding)
        answer = self.request("POST", f"{account}/{name}/token", {"spec": {"expirationSeconds": _TOKEN_LIFETIME}})
        token = str(answer["status"]["token"])
        self._wait_for_rules(namespace, rules, token=token)
        return token

    def _wait_for_rules(self, namespace: str, rules: Sequence[Mapping[str, Any]], *, token: str) -> None:
        deadline = time.monotonic() + _RULES_DEADLINE
        while not all(self._is_allowed(namespace, rule, token=token) for rule in rules):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the rules granted in namespace {namespace} had no effect after {_RULES_DEADLINE:.0f} s"
                )
            time.sleep(0.05)

    def _is_allowed(self, namespace: str, rule: Mapping[str, Any], *, token: str) -> bool:
        resource, _, subresource = str(rule["resources"][0]).partition("/")
        attributes = {
            "namespace": namespace,
            "group": rule["apiGroups"][0],
            "resource": resource,
            "subresource": subresource,
            "verb": rule["verbs"][0],
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        try:
            review = self.request("POST", path, {"spec": {"resourceAttributes": attributes}}, token=token)
        except ApiError as error:
            if error.status == 401:  # the authenticator doesn't know the account yet
                return False
            raise
        return bool(review["status"]["allowed"])

    def write_kubeconfig(self, path: Path, token: str, *, server: str | None = None) -> Path:
        """Write a kubeconfig for ``token``, readable by its owner alone, and return its path.

        ``server`` is the URL as the user of the file reaches it, where that is not ours; the certificate is checked
        against its name all the same.
        """
        cluster = {
            "server": server or self._access.server,
            "certificate-authority-data": base64.b64encode(self._access.ca.encode()).decode(),
            "tls-server-name": TLS_SERVER_NAME,
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "carp", "cluster": cluster}],
            "users": [{"name": "carp", "user": {"token": token}}],
            "contexts": [{"name": "carp", "context": {"cluster": "carp", "user": "carp"}}],
            "current-context": "carp",
        }
        write_secret(path, json.dumps(config, indent=1).encode())  # JSON is YAML
        return path


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, from its first byte on."""
    path.unlink(missing_ok=True)  # an old file would keep its own mode
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 -- a descriptor, not a path
        file.write(content)


def _as_object(answer: bytes) -> dict[str, Any]:
    try:
        document = json.loads(answer)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
