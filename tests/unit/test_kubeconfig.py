"""A kubeconfig: what it says is in force, and of its certificates no file is left."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
from kubernetes.aio.config import kube_config

from sidecar.agent import kubeconfig
from sidecar.demo.certificates import make_server_identity


def test_a_kubeconfig_with_certificates_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "config"
    cluster = {
        "server": "https://10.96.0.1",
        "certificate-authority-data": base64.b64encode(make_server_identity(["10.96.0.1"]).ca).decode(),
    }
    document = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": cluster}],
        "users": [{"name": "a", "user": {"token": "a-token"}}],
    }
    path.write_text(json.dumps(document))
    http = asyncio.run(kubeconfig.client_of(str(path)))
    assert http.configuration.host == "https://10.96.0.1"
    assert len(http.ssl_context.get_ca_certs()) == 1
    assert not Path(http.configuration.ssl_ca_cert).exists()
    assert not kube_config._temp_files
    assert http.configuration.retries is None


def test_a_kubeconfig_that_is_no_yaml_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[")
    with pytest.raises(ValueError, match=r"^it is no YAML: "):
        asyncio.run(kubeconfig.client_of(str(tmp_path / "config")))
