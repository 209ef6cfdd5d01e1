"""manifests/ is the chart without Helm, and each of its files goes through kustomize."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from tests.fakes.helm import EXAMPLES, MANIFESTS, Helm, Object, only, settings
from tools.manifests import files

pytestmark = pytest.mark.packaging

HELMS = {"helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"}


def plain(found: list[Object]) -> dict[tuple[str, str], Object]:
    """Return the objects by kind and name, less what only one of Helm and kustomize adds."""
    result = {}
    for original in found:
        each = copy.deepcopy(original)
        each["metadata"].pop("namespace", None)
        for subject in each.get("subjects", ()):
            subject.pop("namespace", None)
        if each["kind"] == "DaemonSet":
            (one,) = each["spec"]["template"]["spec"]["containers"]
            asked = one["readinessProbe"]["httpGet"]
            asked["path"] = asked["path"].removesuffix("?daemonset=carp/carp-sidecar")  # it may get another name
        if each["kind"] == "ConfigMap":
            each["data"] = yaml.safe_load(each["data"]["config.yaml"])
        for metadata in (each["metadata"], each.get("spec", {}).get("template", {}).get("metadata", {})):
            for key in HELMS:
                metadata.get("labels", {}).pop(key, None)
                metadata.get("annotations", {}).pop(key, None)
            if not metadata.get("annotations", True):
                del metadata["annotations"]
        result[each["kind"], each["metadata"]["name"]] = each
    return result


@pytest.mark.parametrize(
    ("folder", "example"), [("base", "base"), ("overlays/two-node", "two-node"), ("overlays/mixed", "mixed")]
)
def test_a_kustomization_is_what_the_chart_makes_of_its_example(helm: Helm, folder: str, example: str) -> None:
    """But for the rollout's Job: a kustomization has no names that change with what they stand for."""
    by_helm = helm.template(
        "--skip-tests", "--values", EXAMPLES / f"{example}.yaml", "--set", "updateStrategy.type=RollingUpdate"
    )
    assert plain(helm.kustomize(MANIFESTS / folder)) == plain(by_helm)


def test_what_is_made_of_the_chart_is_up_to_date(helm: Helm) -> None:
    for path, text in files(helm.folder).items():
        assert path.read_text() == text, f"{path.name}: run `make manifests`"


def test_other_settings_are_no_rollout(helm: Helm) -> None:
    """The ConfigMap keeps its name, so the pods are the same: they apply what changes in it."""
    found = [helm.kustomize(MANIFESTS / folder) for folder in ("base", "overlays/mixed")]
    base, mixed = (only(each, "ConfigMap") for each in found)
    assert base["metadata"]["name"] == mixed["metadata"]["name"] == "carp-sidecar"
    assert base["data"] != mixed["data"]
    assert only(found[0], "DaemonSet") == only(found[1], "DaemonSet")


def test_the_static_pod_needs_nothing_of_the_cluster(helm: Helm) -> None:
    (pod,) = helm.kustomize(MANIFESTS / "overlays/control-plane")
    spec, (sidecar,) = pod["spec"], pod["spec"]["containers"]
    assert [set(volume) - {"name"} for volume in spec["volumes"]] == [{"hostPath"}, {"emptyDir"}]
    assert "serviceAccountName" not in spec
    assert {"name": "CARP_KUBERNETES", "value": "off"} in sidecar["env"]
    assert {"name": "CARP_HTTP_LISTEN", "value": "127.0.0.1:9113"} in sidecar["env"]
    (other,) = only(helm.kustomize(MANIFESTS / "base"), "DaemonSet")["spec"]["template"]["spec"]["containers"]
    ports = [each["readinessProbe"]["httpGet"]["port"] for each in (sidecar, other)]
    assert ports == [9113, 9112], "of a DaemonSet on the same node each probe has its own answer"
    file = yaml.safe_load((MANIFESTS / "overlays/control-plane/config.yaml").read_text())
    mount = next(each for each in sidecar["volumeMounts"] if each["name"] == "config")
    assert Path(file["password_file"]).parent == Path(mount["mountPath"])


def test_the_component_adds_the_charts_container_to_a_pod_of_yours(helm: Helm, tmp_path: Path) -> None:
    workload = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "proxy", "labels": {"carp-sidecar": "inject"}},
        "spec": {
            "selector": {"matchLabels": {"app": "proxy"}},
            "template": {
                "metadata": {"labels": {"app": "proxy"}},
                "spec": {
                    "containers": [
                        {"name": "proxy", "image": "proxy", "volumeMounts": [{"name": "own", "mountPath": "/own"}]}
                    ],
                    "volumes": [{"name": "own", "emptyDir": {}}],
                },
            },
        },
    }
    other = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "other"}, "spec": {"template": {}}}
    component = tmp_path / "component"
    component.symlink_to(MANIFESTS)
    (tmp_path / "workload.yaml").write_text(yaml.safe_dump_all([workload, other]))
    kustomization = {"resources": ["workload.yaml"], "components": ["component/components/sidecar"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))

    found = helm.kustomize(tmp_path)

    pods = {each["metadata"]["name"]: each["spec"]["template"] for each in found if each["kind"] == "Deployment"}
    assert pods["other"] == {}
    spec = pods["proxy"]["spec"]
    by_name = {each["name"]: each for each in spec["containers"]}
    (ours,) = only(helm.kustomize(MANIFESTS / "base"), "DaemonSet")["spec"]["template"]["spec"]["containers"]
    ours["ports"] = [{"containerPort": 9112, "hostPort": 9112}]  # for the scheduler: one on a node
    assert by_name == {"proxy": workload["spec"]["template"]["spec"]["containers"][0], "carp-sidecar": ours}  # type: ignore[index]
    assert spec["hostNetwork"] is True
    assert {volume["name"] for volume in spec["volumes"]} == {"own", "config", "password", "runtime"}
    assert only(found, "Role") == only(helm.kustomize(MANIFESTS / "base"), "Role")
    assert settings(found)["vhid"] == 42
