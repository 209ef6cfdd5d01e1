"""The sidecar of a node as the chart installs it: with the account of a pod, mirror and listener on; no API server."""

from __future__ import annotations

from pathlib import Path

from sidecar.demo.certificates import make_server_identity

SETTINGS = {
    "KUBERNETES_SERVICE_HOST": "127.0.0.1",
    "KUBERNETES_SERVICE_PORT": "9",
    "CARP_KUBERNETES": "on",
    "CARP_HTTP_LISTEN": "127.0.0.1:9112",
    "POD_NAME": "bench",
    "POD_NAMESPACE": "default",
}
"""Of the environment. Nobody listens at port 9."""


def account(directory: Path) -> Path:
    """Return a folder with the token and the CA of a service account, made in ``directory``."""
    made = directory / "account"
    made.mkdir(exist_ok=True)
    (made / "token").write_text("of nobody")
    (made / "ca.crt").write_bytes(make_server_identity(["127.0.0.1"]).ca)
    return made
