"""The Helm chart, by real helm and without a cluster: what it renders, what it refuses."""

from __future__ import annotations

import json
import re
from ipaddress import ip_interface
from pathlib import Path

import pytest
import yaml

from sidecar.config.model import Interface
from sidecar.config.settings import load
from sidecar.drain import LABELLED_WITHIN
from sidecar.live import diff
from sidecar.protocol import timing
from sidecar.supervisor import AGENT_FAREWELL, COMMANDS_AT_STOP, ENGINE_HAND_OVER
from sidecar.usage import read
from tests.fakes.helm import CHART, EXAMPLES, Helm, Object, only, settings
from tools import values_schema

pytestmark = pytest.mark.packaging

ALL_EXAMPLES = sorted(EXAMPLES.glob("*.yaml"))
GROUP = ("--set", "config.vhid=42", "--set", "config.vips={10.0.0.200}")
PARTS = {"password", "image", "service", "serviceAccount", "rbac", "podDisruptionBudget"} | {
    "updateStrategy",
    "podMonitor",
    "prometheusRule",
    "dashboard",
}
"""Values whose keys the chart's README lists one by one."""
SECRET = ("--set", "password.existingSecret=mine")


def container(found: list[Object]) -> Object:
    (one,) = only(found, "DaemonSet")["spec"]["template"]["spec"]["containers"]
    return dict(one)


def test_lint_has_nothing_to_say_of_the_chart_and_its_examples(helm: Helm) -> None:
    values = ",".join(map(str, ALL_EXAMPLES))
    assert "1 chart(s) linted, 0 chart(s) failed" in helm.run("helm", "lint", "--strict", CHART)
    assert "0 chart(s) failed" in helm.run("helm", "lint", "--strict", CHART, "--values", values)


def test_the_values_on_the_page_about_mixed_fleets_are_those_of_the_example(helm: Helm, tmp_path: Path) -> None:
    page = (CHART.parents[1] / "docs/mixed-fleets.md").read_text()
    (values,) = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    (tmp_path / "values.yaml").write_text(values)
    told = settings(helm.template("--values", tmp_path / "values.yaml"))
    assert told == settings(helm.template("--values", EXAMPLES / "mixed.yaml"))


@pytest.mark.parametrize("example", ALL_EXAMPLES, ids=lambda path: path.stem)
def test_the_settings_of_each_example_are_right(helm: Helm, example: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a password")
    for version in ("1.28.0", "1.32.0", "1.36.2"):
        found = helm.template("--values", example, "--kube-version", version)
        assert only(found, "DaemonSet")["spec"]["template"]["spec"]["hostNetwork"] is True
    text = re.sub(r"/run/secrets/carp/\w+", str(tmp_path / "password"), yaml.safe_dump(settings(found)))
    (tmp_path / "config.yaml").write_text(text)
    nic = Interface("eth0", (ip_interface("10.0.0.11/24"), ip_interface("fe80::11/64")))
    for node in settings(found).get("nodes", {"any": {}}):
        environment = {"CARP_CONFIG_FILE": str(tmp_path / "config.yaml"), "NODE_NAME": node}
        loaded = load(environment, interfaces=lambda: [nic])
        assert [group.vhid for group in loaded.plan.groups] in ([42], [42, 43])
        assert not [line for line in loaded.warnings if "no effect" in line]


def test_the_container_has_two_rights_and_nothing_else(helm: Helm) -> None:
    found = helm.template(*GROUP, *SECRET)
    pod = only(found, "DaemonSet")["spec"]["template"]["spec"]
    assert container(found)["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
    }
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostPID", "hostIPC"} & pod.keys()
    assert {volume["name"]: set(volume) - {"name"} for volume in pod["volumes"]} == {
        "config": {"configMap"},
        "password": {"secret"},
        "runtime": {"emptyDir"},
    }


def test_there_is_no_cpu_limit_and_the_reason_stands_beside_it(helm: Helm) -> None:
    resources = container(helm.template(*GROUP, *SECRET))["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}
    assert re.search(r"# No CPU limit, on purpose: the CFS quota", (CHART / "values.yaml").read_text())


def test_no_probe_asks_the_api_server_and_none_kills_for_a_port_that_is_somebody_elses(helm: Helm) -> None:
    def probes(*options: str) -> Object:
        one = container(helm.template(*GROUP, *SECRET, *options))
        for probe in ("startupProbe", "livenessProbe"):
            assert one[probe]["exec"] == {"command": ["carp-sidecar", "status", "--json"]}
        return dict(one["readinessProbe"])

    path = "/readyz?daemonset=carp/carp-sidecar"  # another sidecar that has the port is not asked
    assert probes()["httpGet"] == {"path": path, "port": 9112, "host": "127.0.0.1"}
    elsewhere = probes("--set", "config.http_listen=[fd00::1]:80")
    assert elsewhere["httpGet"] == {"path": path, "port": 80, "host": "fd00::1"}
    assert probes("--set", "config.http_listen=0.0.0.0:9200")["httpGet"]["host"] == "127.0.0.1"
    assert probes("--set", "config.http_listen=off")["exec"] == {"command": ["carp-sidecar", "status", "--json"]}
    assert probes("--set", "podMonitor.enabled=true")["httpGet"] == {"path": path, "port": 9112}


def test_what_watches_it_is_there_where_asked_for(helm: Helm) -> None:
    kinds = ("PodMonitor", "PrometheusRule")
    assert not [each for each in helm.template(*GROUP, *SECRET) if each["kind"] in kinds]
    options = ("podMonitor.enabled=true", "podMonitor.labels.release=prometheus", "prometheusRule.enabled=true")
    found = helm.template(*GROUP, *SECRET, "--set", ",".join(options), "--set", "dashboard.enabled=true")

    monitor = only(found, "PodMonitor")
    pod = only(found, "DaemonSet")["spec"]["template"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "http", "path": "/metrics"}
    (one,) = pod["spec"]["containers"]
    assert one["ports"] == [{"name": "http", "containerPort": 9112}]
    assert {"name": "CARP_HTTP_LISTEN", "value": "$(POD_IP):9112"} in one["env"]

    alerts = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    assert only(found, "PrometheusRule")["spec"] == alerts
    (dashboard,) = (each for each in found if each["metadata"]["name"].endswith("-dashboard"))
    assert json.loads(dashboard["data"]["carp-sidecar.json"]) == json.loads(
        (CHART / "files/dashboard.json").read_text()
    )
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_role_has_the_rules_of_the_file_and_goes_with_the_mirror(helm: Helm) -> None:
    found = helm.template(*GROUP, *SECRET)
    features = yaml.safe_load((CHART / "files/role-rules.yaml").read_text())
    assert only(found, "Role", "carp-sidecar")["rules"] == [*features["events"], *features["mirror"]]
    assert not [each for each in found if each["kind"].startswith("ClusterRole")]
    (subject,) = only(found, "RoleBinding", "carp-sidecar")["subjects"]
    assert (subject["name"], subject["namespace"]) == ("carp-sidecar", "carp")
    assert only(found, "DaemonSet")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True

    without = helm.template(*GROUP, *SECRET, "--set", "config.kubernetes=off")
    assert {each["kind"] for each in without} == {"ConfigMap", "DaemonSet", "ServiceAccount"}
    assert only(without, "DaemonSet")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("settings", "features"),
    [
        (("config.events=false",), ["mirror"]),
        (("config.readiness_condition=true",), ["events", "mirror", "readiness_condition"]),
        (("config.lease_witness=true",), ["events", "lease_witness", "mirror"]),
        (("config.endpoint_slice=web", "config.load_balancer_class=carp/vip"), None),
    ],
)
def test_the_role_has_what_the_features_want_and_no_more(
    helm: Helm, settings: tuple[str, ...], features: list[str] | None
) -> None:
    every = yaml.safe_load((CHART / "files/role-rules.yaml").read_text())
    wanted = features or ["endpoint_slice", "events", "load_balancer_class", "mirror"]
    given = [word for setting in settings for word in ("--set", setting)]
    role = only(helm.template(*GROUP, *SECRET, *given), "Role", "carp-sidecar")
    assert role["rules"] == [rule for feature in wanted for rule in every[feature]]


def test_events_on_nodes_have_a_role_in_default_where_they_are_asked_for(helm: Helm) -> None:
    found = helm.template(*GROUP, *SECRET, "--set", "config.node_events=true")
    name = "carp-carp-sidecar-node-events"
    role, binding = only(found, "Role", name), only(found, "RoleBinding", name)
    assert {role["metadata"]["namespace"], binding["metadata"]["namespace"]} == {"default"}
    assert role["rules"] == [{"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}]
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "carp-sidecar", "namespace": "carp"}]


NODES = "config.health[0].name=x,config.health[0].node_condition=Ready"


@pytest.mark.parametrize(
    ("settings", "verbs"),
    [
        (("config.node_annotations=true",), [["list", "watch"]]),
        (("config.cordon=true", "config.node_annotations=true"), [["list", "watch"]]),
        ((NODES,), [["get"]]),
        ((NODES, "config.cordon=true"), [["list", "watch"], ["get"]]),
    ],
)
def test_what_concerns_nodes_has_a_cluster_role_of_its_own(
    helm: Helm, settings: tuple[str, ...], verbs: list[list[str]]
) -> None:
    given = [word for setting in settings for word in ("--set", setting)]
    found = helm.template(*GROUP, *SECRET, *given)
    role, binding = only(found, "ClusterRole"), only(found, "ClusterRoleBinding")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": each} for each in verbs]
    assert role["metadata"]["name"] == binding["metadata"]["name"] == binding["roleRef"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "carp-sidecar", "namespace": "carp"}]
    limited = helm.template(*GROUP, *SECRET, *given, "--set", "rbac.nodeNames={node-a,node-b}")
    assert {tuple(rule["resourceNames"]) for rule in only(limited, "ClusterRole")["rules"]} == {("node-a", "node-b")}


def test_a_drain_before_sigterm_is_there_where_asked_for_and_the_grace_period_is_enough(helm: Helm) -> None:
    assert "lifecycle" not in container(helm.template(*GROUP, *SECRET))
    found = helm.template(*GROUP, *SECRET, "--set", "preStopDrain=true")
    assert container(found)["lifecycle"] == {"preStop": {"exec": {"command": ["carp-sidecar", "drain"]}}}
    keep = helm.template(*GROUP, *SECRET, "--set", "preStopDrain=true,config.on_exit=keep")
    assert "lifecycle" not in container(keep)
    grace = only(found, "DaemonSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    hook = LABELLED_WITHIN + timing.succession(advbase=254, advskew=254) + 1  # and an interpreter's start
    stop = LABELLED_WITHIN + ENGINE_HAND_OVER + AGENT_FAREWELL + COMMANDS_AT_STOP
    assert hook + stop <= grace


def test_real_time_takes_a_capability_that_is_there_where_asked_for(helm: Helm) -> None:
    for more, added in (((), []), (("--set", "realtimeScheduling=true"), ["SYS_NICE"])):
        capabilities = container(helm.template(*GROUP, *SECRET, *more))["securityContext"]["capabilities"]
        assert capabilities == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", *added]}


def test_what_keeps_the_pods_where_they_are(helm: Helm) -> None:
    plain = helm.template(*GROUP, *SECRET)
    pod = only(plain, "DaemonSet")["spec"]["template"]
    assert pod["spec"]["priorityClassName"] == "system-node-critical"
    assert not [each for each in plain if each["kind"] == "PodDisruptionBudget"]
    options = "podDisruptionBudget.enabled=true,podDisruptionBudget.minAvailable=2,priorityClassName="
    asked = helm.template(*GROUP, *SECRET, "--set", options, "--set", "tolerations[0].operator=Exists")
    budget = only(asked, "PodDisruptionBudget")["spec"]
    assert budget["minAvailable"] == 2
    assert budget["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    spec = only(asked, "DaemonSet")["spec"]["template"]["spec"]
    assert "priorityClassName" not in spec
    assert spec["tolerations"] == [{"operator": "Exists"}]


def test_each_group_has_a_service_of_its_master(helm: Helm) -> None:
    common = {"app.kubernetes.io/name": "carp-sidecar", "app.kubernetes.io/instance": "carp-sidecar"}
    found = helm.template("--values", EXAMPLES / "active-active.yaml")
    services = {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "Service"}
    assert {name: spec["selector"] for name, spec in services.items()} == {
        "carp-sidecar-master-web": {**common, "carp-role-web": "master"},
        "carp-sidecar-master-db": {**common, "carp-role-db": "master"},
    }
    assert all(spec["ports"] and "clusterIP" not in spec for spec in services.values())

    single = only(helm.template(*GROUP, *SECRET, "--set", "config.role_label=example\\.org/vip"), "Service")
    assert single["spec"]["selector"] == {**common, "example.org/vip": "master"}
    assert single["spec"]["clusterIP"] == "None", "a DNS name needs no port"


def test_a_group_with_a_target_selector_has_its_role_elsewhere_and_nothing_of_the_chart_looks_for_it_here(
    helm: Helm,
) -> None:
    def looked_for(*options: str) -> tuple[set[str], list[str]]:
        found = helm.template(*SECRET, *(word for option in options for word in ("--set", option)))
        services = {each["metadata"]["name"] for each in found if each["kind"] == "Service"}
        tests = [each["spec"]["containers"][0]["args"][2:] for each in found if each["kind"] == "Pod"]
        return services, [label for labels in tests for label in labels]

    several = [
        f"config.groups[{index}].{key}"
        for index, name in enumerate(("web", "db"))
        for key in (f"name={name}", f"vhid={42 + index}", f"vips={{10.0.0.20{index}}}")
    ]
    assert looked_for(*several, "config.groups[0].target_selector=app\\=web") == (
        {"carp-sidecar-master-db"},
        ["carp-role-db"],
    )
    assert looked_for(*several, "config.target_selector=app\\=web") == (set(), [])
    assert looked_for(*GROUP[1::2], "config.target_selector=app\\=web") == (set(), [])
    assert looked_for(*GROUP[1::2]) == ({"carp-sidecar-master"}, ["carp-role"])


def test_a_bare_off_is_a_boolean_for_helm_and_the_word_again_for_the_sidecar(helm: Helm, tmp_path: Path) -> None:
    values = """
        podMonitor: {enabled: false}
        config:
          {kubernetes: off, http_listen: off, lease: off, vhid: 42, vips: [10.0.0.200],
           groups: [{name: web, lease: off, preempt: off}], nodes: {node-a: {lease: off, groups: {web: {lease: off}}}}}
        """
    (tmp_path / "values.yaml").write_text(values)
    found = helm.template("--values", tmp_path / "values.yaml", *SECRET)
    told = settings(found)
    assert (told["kubernetes"], told["http_listen"], told["lease"]) == ("off", "off", "off")
    assert told["groups"] == [{"name": "web", "lease": "off", "preempt": False}], "what is a boolean stays one"
    assert told["nodes"] == {"node-a": {"lease": "off", "groups": {"web": {"lease": "off"}}}}
    assert {each["kind"] for each in found} == {"ConfigMap", "DaemonSet", "ServiceAccount"}
    assert "exec" in container(found)["readinessProbe"]
    (tmp_path / "values.yaml").write_text("config: {kubernetes: on, realtime: off}")
    found = helm.template("--values", tmp_path / "values.yaml", *GROUP, *SECRET)
    assert settings(found)["kubernetes"] == "on"
    assert {"name": "CARP_REALTIME", "value": "off"} in container(found)["env"]
    assert only(found, "Role", "carp-sidecar")


def test_a_changed_setting_changes_the_config_map_and_no_pod(helm: Helm) -> None:
    """Nor does a changed password: both are mounts, which the sidecar listens to."""
    groups = "config.groups[0].name=web,config.groups[0].vhid=42,config.groups[0].vips={10.0.0.200}"
    before = helm.template("--set", groups, *SECRET)
    more = f"{groups},config.preempt=true,config.groups[0].advbase=2,config.nodes.node-a.advskew=50"
    after = helm.template("--set", more, *SECRET)
    assert only(before, "DaemonSet") == only(after, "DaemonSet")
    assert settings(before) != settings(after)
    assert [each for each in before if each["kind"] != "ConfigMap"] == [
        each for each in after if each["kind"] != "ConfigMap"
    ]
    mounts = container(after)["volumeMounts"]
    assert {each["name"]: each["mountPath"] for each in mounts} == {
        "config": "/etc/carp-sidecar",
        "password": "/run/secrets/carp",
        "runtime": "/run/carp-sidecar",
    }
    assert not [each for each in mounts if "subPath" in each]


def test_what_can_not_change_live_is_in_the_pods_environment_and_a_rollout_one_node_at_a_time(helm: Helm) -> None:
    file = set(values_schema.values()["properties"]["config"]["properties"])
    fixed = [name for name in diff.FIXED.values() if name.removeprefix("CARP_").lower() in file]
    assert fixed == ["CARP_REALTIME", "CARP_LOG_LEVEL", "CARP_LOG_FORMAT"]
    plain = helm.template(*GROUP, *SECRET)
    asked = {"CARP_REALTIME": "off", "CARP_LOG_LEVEL": "debug", "CARP_LOG_FORMAT": "text"}
    options = ",".join(f"config.{name.removeprefix('CARP_').lower()}={asked[name]}" for name in fixed)
    talkative = helm.template(*GROUP, *SECRET, "--set", options)
    environment = {each["name"]: each.get("value") for each in container(talkative)["env"]}
    assert {name: environment[name] for name in fixed} == asked
    assert not set(fixed) & {each["name"] for each in container(plain)["env"]}
    assert settings(plain) == settings(talkative), "running pods have nothing to refuse"
    assert only(talkative, "DaemonSet")["spec"]["minReadySeconds"] == 10


def test_a_job_gives_the_nodes_a_new_version_with_an_account_and_a_role_of_its_own(helm: Helm) -> None:
    found = helm.template(*GROUP, *SECRET, "--set", "tolerations[0].operator=Exists", "--set", "nodeSelector.a=b")
    assert only(found, "DaemonSet")["spec"]["updateStrategy"] == {"type": "OnDelete"}
    job = only(found, "Job")
    assert "annotations" not in job["metadata"], "no hook: helm's --wait waits for what the Job brings about"
    assert job["metadata"]["labels"]["app.kubernetes.io/component"] == "rollout"

    pod = job["spec"]["template"]
    assert not only(found, "DaemonSet")["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    spec, (one,) = pod["spec"], pod["spec"]["containers"]
    assert not {"hostNetwork", "hostPID", "volumes"} & spec.keys()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert one["image"] == container(found)["image"]
    assert (spec["tolerations"], spec["nodeSelector"]) == ([{"operator": "Exists"}], {"a": "b"})
    asked = read(one["args"])
    assert (asked.command, asked.namespace, asked.daemonset) == ("rollout", "carp", "carp-sidecar")
    assert (asked.role_label, asked.node_timeout) == ("carp-role", 300)

    name = spec["serviceAccountName"]
    assert only(found, "ServiceAccount", name)["automountServiceAccountToken"] is False
    rules = only(found, "Role", name)["rules"]
    granted = {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    pods = {("list", "pods"), ("delete", "pods"), ("patch", "pods/status")}
    assert granted == {("get", "daemonsets"), ("list", "controllerrevisions"), *pods}
    assert "delete" not in {verb for rule in only(found, "Role", "carp-sidecar")["rules"] for verb in rule["verbs"]}
    binding = only(found, "RoleBinding", name)
    assert (binding["subjects"][0]["name"], binding["roleRef"]["name"]) == (name, name)


def test_the_rollout_knows_the_settings_that_concern_it(helm: Helm) -> None:
    options = ("config.role_label=example\\.org/vip", "updateStrategy.nodeTimeoutSeconds=60", "fullnameOverride=vip")
    found = helm.template(*GROUP, *SECRET, *(word for option in options for word in ("--set", option)))
    (one,) = only(found, "Job")["spec"]["template"]["spec"]["containers"]
    asked = read(one["args"])
    assert (asked.daemonset, asked.role_label, asked.node_timeout) == ("vip", "example.org/vip", 60)


def test_each_change_of_the_pods_has_a_rollout_of_its_own_and_names_stay_short_enough(helm: Helm) -> None:
    def name(*options: str, release: str = "carp-sidecar") -> str:
        return str(only(helm.template(*GROUP, *SECRET, *options, release=release), "Job")["metadata"]["name"])

    assert name() == name("--set", "config.dead_ratio=4"), "helm's revision is in it as well, but here that is 1"
    assert len({name(), name("--set", "image.tag=two"), name("--set", "updateStrategy.nodeTimeoutSeconds=9")}) == 3
    assert len(name(release="a" * 53)) <= 63


def test_without_an_order_there_is_no_job(helm: Helm) -> None:
    def parts(*options: str) -> tuple[Object, set[str]]:
        found = helm.template(*GROUP, *SECRET, *options)
        names = {each["metadata"]["name"] for each in found}
        return only(found, "DaemonSet")["spec"]["updateStrategy"], {each for each in names if "rollout" in each}

    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    assert parts("--set", "updateStrategy.type=RollingUpdate") == (rolling, set())
    assert parts("--set", "updateStrategy.type=OnDelete") == ({"type": "OnDelete"}, set())
    assert parts("--set", "config.kubernetes=off") == (rolling, set()), "no roles to go by"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "config: there is no group. For a single one: --set config.vhid=42"),
        (("--set", "config.vhid=42"), "config: there is no group"),
        (("--set", "config.groups[0].name=web"), "config.groups: web has no vhid or no vips"),
        (("--set", "config.vhdi=42"), "at '/config': additional properties 'vhdi' not allowed"),
        (("--set", "config.vhid=256"), "at '/config/vhid': maximum: got 256, want 255"),
        (("--set", "config.preempt=yes"), "at '/config/preempt': got string, want boolean"),
        (("--set", "config.replay=lax"), "at '/config/replay': value must be one of 'compat', 'strict'"),
        (("--set", "config.preempt_delay=3x"), "does not match pattern"),
        (("--set", "config.vips={10.0.0}"), "at '/config/vips"),
        (("--set", "config.nodes.node-a.advskw=1"), "at '/config/nodes/node-a': additional properties 'advskw'"),
        (("--set", "config.groups[0].vhid=1"), "at '/config/groups/0': missing property 'name'"),
        (("--set", "config.password=secret"), "additional properties 'password' not allowed"),
        (("--set", "pasword.key=x"), "additional properties 'pasword' not allowed"),
        (("--set", "podDisruptionBudget.minAvailable=50%"), "at '/podDisruptionBudget/minAvailable': got string"),
        (
            (*GROUP, *SECRET, "--set", "podMonitor.enabled=true,config.http_listen=127.0.0.1:9112"),
            "config.http_listen: Prometheus cannot reach 127.0.0.1:9112",
        ),
        (
            ("--set", "updateStrategy.type=Rolling"),
            "at '/updateStrategy/type': value must be one of 'Ordered', 'RollingUpdate'",
        ),
        (GROUP, "password.existingSecret: not set, and without a cluster to look at, each rendering would make a new"),
        ((*GROUP, "--api-versions", "v1/Secret"), "password.existingSecret: not set, and without a cluster to look at"),
    ],
    ids=lambda value: "-".join(value[1::2]) if isinstance(value, tuple) else "",
)
def test_a_mistake_ends_the_installation_and_says_what_it_is(
    helm: Helm, options: tuple[str, ...], complaint: str
) -> None:
    assert complaint in helm.run("helm", "template", "x", CHART, *options, fails=True)


def test_every_value_is_in_the_charts_readme() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    documented = set(re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(), re.M))
    leaves = {
        f"{key}.{name}" if key in PARTS else key
        for key, value in values.items()
        for name in (value if isinstance(value, dict) and value else [""])
    }
    assert documented == leaves


def test_the_chart_has_the_version_of_the_program() -> None:
    from sidecar import __version__  # noqa: PLC0415 - one test's concern

    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
