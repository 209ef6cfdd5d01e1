"""The parts of the official client in a pod: its own service account, and its token read again."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import pytest
from kubernetes.aio.config import incluster_config

from sidecar.agent import client
from sidecar.demo.certificates import make_server_identity


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The token of a pod, as the kubelet mounts it."""
    (tmp_path / "ca.crt").write_bytes(make_server_identity(["10.96.0.1"]).ca)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "token").write_text("one")
    return tmp_path / "token"


def test_a_pod_is_its_service_account_and_a_token_that_is_old_is_read_again(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> tuple[str, list[str]]:
        http = client.in_cluster()
        said = [(await http.configuration.auth_settings())["BearerToken"]["value"]]
        token.write_text("two")
        said.append((await http.configuration.auth_settings())["BearerToken"]["value"])
        now = datetime.datetime.now() + datetime.timedelta(minutes=2)
        clock = type("Clock", (datetime.datetime,), {"now": classmethod(lambda *_: now)})
        monkeypatch.setattr(incluster_config.datetime, "datetime", clock)
        said.append((await http.configuration.auth_settings())["BearerToken"]["value"])
        return http.configuration.host, said

    assert asyncio.run(story()) == ("https://[fd00::1]:443", ["bearer one", "bearer one", "bearer two"])


def test_there_is_no_account_outside_a_pod(token: Path) -> None:
    token.unlink()
    with pytest.raises(client.ConfigException, match="token file does not exist"):
        client.in_cluster()
