import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.demo.apiserver import ApiServer
from sidecar.demo.cluster import (
    RULES,
    Backend,
    Cluster,
    ClusterError,
    columns,
    load_kubeconfig,
    open_backend,
    write_node_kubeconfig,
)

ROLE_RULES = Path(__file__).parents[2] / "charts/carp-sidecar/files/role-rules.yaml"


def kubeconfig(path: Path, **cluster: str) -> Path:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example:8443/base", **cluster}}],
        "users": [{"name": "u", "user": {"client-certificate": "pki/me.crt", "client-key": "/etc/me.key"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_rules_are_those_of_the_chart() -> None:
    rules = yaml.safe_load(ROLE_RULES.read_text())
    assert [*rules["mirror"], *rules["events"]] == list(RULES)


def test_columns_are_aligned_as_kubectl_does() -> None:
    assert columns([["NAME", "READY"], ["carp-node-1", "1/1"]]) == "NAME          READY\ncarp-node-1   1/1"


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    with ApiServer() as api:
        path = api.write_kubeconfig(tmp_path / "kubeconfig", namespace="demo")
        backend = Backend(description="", kubeconfig=path, node_kubeconfig=path, namespace="demo")
        cluster = Cluster(backend)
        assert cluster.endpoint == ("127.0.0.1", api.port)
        yield cluster


def label(cluster: Cluster, pod: str, role: str) -> None:
    cluster._core.patch_namespaced_pod(pod, "demo", {"metadata": {"labels": {"carp-role": role}}})


def test_no_master_is_shown_as_kubectl_does(cluster: Cluster) -> None:
    cluster.create_pod("carp-node-1")
    assert cluster.masters() == ()
    assert cluster.masters_table() == "No resources found in demo namespace."


def test_masters_are_shown_as_kubectl_does(cluster: Cluster) -> None:
    for number in (1, 2):
        cluster.create_pod(f"carp-node-{number}")
    label(cluster, "carp-node-1", "backup")
    label(cluster, "carp-node-2", "master")
    assert cluster.masters() == ("carp-node-2",)
    heads, row = cluster.masters_table().splitlines()
    assert heads == "NAME          READY   STATUS    RESTARTS   AGE   CARP-ROLE"
    assert row.split()[:4] == ["carp-node-2", "1/1", "Running", "0"]
    assert row.split()[-1] == "master"


def test_without_anything_better_the_stand_in_serves_and_says_so(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PATH": ""}
    said: list[str] = []
    with open_backend(tmp_path, environ, say=said.append) as backend:
        assert backend.description.startswith("an in-memory stand-in")
        Cluster(backend).create_pod("carp-node-1")
    assert said == []


def test_a_given_cluster_is_used_and_left_as_it_was(tmp_path: Path) -> None:
    """The stand-in has no namespaces to create, so this ends where the demo would create one; it asks the right one."""
    with ApiServer() as api:
        given = api.write_kubeconfig(tmp_path / "given")
        backend = open_backend(tmp_path, {"DEMO_KUBECONFIG": str(given)}, say=print)
        with pytest.raises(Exception, match="could not find the requested resource"), backend:
            pass
    written = load_kubeconfig(tmp_path / "kubeconfig")
    assert written["clusters"][0]["cluster"]["server"] == f"http://127.0.0.1:{api.port}"
    assert written["contexts"][0]["context"]["namespace"].startswith("carp-demo-")
    assert json.loads(given.read_text())["contexts"][0]["context"]["namespace"] == "default"


def test_a_node_reaches_the_server_through_its_door_under_its_own_name(tmp_path: Path) -> None:
    source = kubeconfig(tmp_path / "source", **{"certificate-authority": "ca.crt"})
    write_node_kubeconfig(source, tmp_path / "node")
    written = yaml.safe_load((tmp_path / "node").read_text())
    assert written["clusters"][0]["cluster"] == {
        "server": "https://127.0.0.1:6443/base",
        "tls-server-name": "api.example",
        "certificate-authority": str(tmp_path / "ca.crt"),
    }
    user = written["users"][0]["user"]
    assert user == {"client-certificate": str(tmp_path / "pki/me.crt"), "client-key": "/etc/me.key"}
    assert (tmp_path / "node").stat().st_mode & 0o777 == 0o600


def test_a_tls_name_that_is_given_stays_and_plain_http_gets_none(tmp_path: Path) -> None:
    write_node_kubeconfig(kubeconfig(tmp_path / "a", **{"tls-server-name": "kubernetes"}), tmp_path / "node")
    assert load_kubeconfig(tmp_path / "node")["clusters"][0]["cluster"]["tls-server-name"] == "kubernetes"
    write_node_kubeconfig(kubeconfig(tmp_path / "b", server="http://127.0.0.1:1"), tmp_path / "node")
    assert load_kubeconfig(tmp_path / "node")["clusters"][0]["cluster"] == {"server": "http://127.0.0.1:6443"}


@pytest.mark.parametrize("text", ["", "[]", "{", "current-context: x\nclusters: []\nusers: []\ncontexts: []\n"])
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(ClusterError, match=str(path)):
        load_kubeconfig(path)


def test_a_kubeconfig_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="No such file"):
        load_kubeconfig(tmp_path / "none")
