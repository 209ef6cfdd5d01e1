from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from sidecar.config.model import Interface, SettingsError
from sidecar.config.settings import environment_for_children, load
from sidecar.ipc.plan import KubernetesPlan, MirrorPlan, decode_plan, encode_plan
from tests.fakes.node import ENOUGH, INTERFACES, LISTED, load_on_node, mistakes

VHID = "use a whole number from 1 to 255, the same on every node of the group"
VIPS = "use address[/prefix], IPv4 or IPv6, several with commas between them, such as 10.0.0.200"
PASSWORD = "use 1 to 20 bytes of UTF-8 (19 to interoperate with ucarp and the BSDs), the same on every node"
PASSWORD_FILE = "use the path of a file that holds the group's password, 1 to 20 bytes"


def test_one_group_by_the_environment_alone() -> None:
    loaded = load_on_node(ENOUGH)
    plan = loaded.plan
    assert (plan.node_name, plan.runtime_dir) == ("host-1", "/run/carp-sidecar")
    assert (plan.log_level, plan.log_format, plan.kubernetes) == ("info", "json", None)
    (group,) = plan.groups
    assert (group.name, group.interface, group.vhid, group.paths[0].source) == ("default", "eth0", 42, "10.0.0.11")
    assert (group.vips, group.key) == (("10.0.0.200/32",), b"correct horse".ljust(20, b"\0"))
    assert (group.advbase, group.advskew, group.dead_ratio, group.preempt) == (1, 0, 3, False)
    assert (loaded.warnings, loaded.config_file, loaded.password_files) == ((), None, {})
    assert decode_plan(encode_plan(plan)) == plan


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"CARP_VHID": "0"}, f"CARP_VHID: 0 is out of range; {VHID}"),
        ({"CARP_VHID": "256"}, f"CARP_VHID: 256 is out of range; {VHID}"),
        ({"CARP_VHID": "x"}, f"CARP_VHID: 'x' is not a whole number; {VHID}"),
        ({"CARP_VHID": ""}, f"CARP_VHID: is empty; {VHID}"),
        ({"CARP_VIPS": "10.0.0.999"}, f"CARP_VIPS: '10.0.0.999' is not an address; {VIPS}"),
        ({"CARP_VIPS": "10.0.0.200 10.0.0.201"}, f"CARP_VIPS: '10.0.0.200' ... is not an address; {VIPS}"),
        ({"CARP_VIPS": ","}, f"CARP_VIPS: has no address in it; {VIPS}"),
        ({"CARP_VIPS": "10.0.0.9,10.0.0.9/24"}, "CARP_VIPS: 10.0.0.9 is there twice; name each address once"),
        (
            {"CARP_VIPS": "10.0.0.11"},
            "CARP_VIPS: 10.0.0.11 is this node's own address (on eth0); use an address that no node has, "
            "or, if a killed ucarp left it there, remove it: ip addr del 10.0.0.11/24 dev eth0",
        ),
        ({"CARP_PASSWORD": "x" * 21}, f"CARP_PASSWORD: has 21 bytes where a password takes at most 20; {PASSWORD}"),
        ({"CARP_PASSWORD": ""}, f"CARP_PASSWORD: is empty; {PASSWORD}"),
        ({"CARP_PASSWORD": "\udcff"}, f"CARP_PASSWORD: is not UTF-8 text; {PASSWORD}"),
        (
            {"CARP_PASSWORD_FILE": "/nonexistent/password"},
            "CARP_PASSWORD: CARP_PASSWORD_FILE is set as well; keep one of the two",
        ),
        (
            {"CARP_PASSWORD": "", "CARP_PASSWORD_FILE": "/nonexistent/password"},
            f"CARP_PASSWORD_FILE: '/nonexistent/password' cannot be read: No such file or directory; {PASSWORD_FILE}",
        ),
        (
            {"CARP_PASSWORD": "", "CARP_PASSWORD_FILE": "/dev"},
            f"CARP_PASSWORD_FILE: '/dev' cannot be read: Is a directory; {PASSWORD_FILE}",
        ),
        (
            {"CARP_PASSWORD": "", "CARP_PASSWORD_FILE": "/dev/null/x"},
            f"CARP_PASSWORD_FILE: '/dev/null/x' cannot be read: Not a directory; {PASSWORD_FILE}",
        ),
        ({"CARP_INTERFACE": "eth9"}, f"CARP_INTERFACE: 'eth9' is no interface of this node; use one of: {LISTED}"),
        ({"CARP_ADVBASE": "255"}, "CARP_ADVBASE: 255 is out of range; use whole seconds from 0 to 254"),
        (
            {"CARP_ADVSKEW": "-1"},
            "CARP_ADVSKEW: -1 is out of range; "
            "use a whole number of 1/256 s from 0 to 254; the node with the lowest is the preferred master",
        ),
        (
            {"CARP_DEAD_RATIO": "0"},
            "CARP_DEAD_RATIO: 0 is out of range; use a whole number of intervals from 1 to 255, usually 3",
        ),
        ({"CARP_PREEMPT": "maybe"}, "CARP_PREEMPT: 'maybe' is neither true nor false; use true or false"),
        (
            {"CARP_SOURCE_ADDRESS": "fd00::1"},
            "CARP_SOURCE_ADDRESS: 'fd00::1' is not an IPv4 address; "
            "use an IPv4 address of the group's interface, or leave it unset",
        ),
        (
            {"CARP_MULTICAST_GROUP": "10.0.0.1"},
            "CARP_MULTICAST_GROUP: '10.0.0.1' is not a multicast address; "
            "use an IPv4 multicast address, the same on every node; 224.0.0.18 is CARP's own",
        ),
        (
            {"CARP_REPLAY": "lenient"},
            "CARP_REPLAY: 'lenient' is not one of its values; "
            "use compat or strict, the same on every node of the group",
        ),
        (
            {"CARP_LOG_LEVEL": "loud"},
            "CARP_LOG_LEVEL: 'loud' is not one of its values; use debug, info, warning or error",
        ),
        ({"CARP_LOG_FORMAT": "xml"}, "CARP_LOG_FORMAT: 'xml' is not one of its values; use json or text"),
        ({"CARP_KUBERNETES": "yes"}, "CARP_KUBERNETES: 'yes' is not one of its values; use auto, on or off"),
        (
            {"CARP_ROLE_LABEL": "a b"},
            "CARP_ROLE_LABEL: 'a' ... is not a Kubernetes label key; "
            "use a label key: at most 63 letters, digits, -, _ and ., after an optional dns.prefix/",
        ),
        (
            {"CARP_RUNTIME_DIR": "run"},
            "CARP_RUNTIME_DIR: 'run' is not an absolute path; "
            "use an absolute path of at most 90 bytes, since a Unix socket in it has to fit",
        ),
        (
            {"NODE_NAME": "a b"},
            "NODE_NAME: 'a' ... has white space or control characters in it; "
            "set it with valueFrom.fieldRef.fieldPath: spec.nodeName",
        ),
        (
            {"CARP_CONFIG_FILE": "/nonexistent/c.yaml"},
            "CARP_CONFIG_FILE: '/nonexistent/c.yaml' does not exist; use the path of a YAML file, or unset it",
        ),
        (
            {"CARP_CONFIG_FILE": "/dev"},
            "CARP_CONFIG_FILE: '/dev' cannot be read: Is a directory; make it a readable file",
        ),
        (
            {"CARP_CONFIG_FILE": "/dev/null/x"},
            "CARP_CONFIG_FILE: '/dev/null/x' cannot be read: Not a directory; make it a readable file",
        ),
        (
            {"CARP_CONFIG_FILE": "a\nb"},
            "CARP_CONFIG_FILE: 'a' ... has control characters in it; use the path of a YAML file, or unset it",
        ),
        ({"CARP_VHDI": "1"}, "CARP_VHDI: unknown setting; did you mean CARP_VHID?"),
        ({"CARP_PASWORD": "hunter2"}, "CARP_PASWORD: unknown setting; did you mean CARP_PASSWORD?"),
        ({"CARP_POD_NAME": "x"}, "CARP_POD_NAME: unknown setting; did you mean POD_NAME?"),
        ({"CARP_FOO": ""}, "CARP_FOO: unknown setting; remove it (the nearest known one is CARP_CORDON)"),
        ({"CARP_a b": ""}, "'CARP_a' ...: unknown setting; remove it (the nearest known one is CARP_ADVBASE)"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_environment_is_one_line(given: dict[str, str], line: str) -> None:
    assert mistakes(ENOUGH | given) == [line]


def test_several_mistakes_are_told_together() -> None:
    given = {"CARP_VHID": "0", "CARP_VIPS": "x,y", "CARP_INTERFACE": "eth9", "CARP_VHDI": "1"}
    assert [line.split(":")[0] for line in mistakes(given)] == [
        "CARP_VHID",
        "CARP_VIPS",
        "CARP_VIPS",
        "CARP_VHDI",
        "CARP_INTERFACE",
        "CARP_PASSWORD_FILE",
    ]


def test_nothing_at_all() -> None:
    assert mistakes({}) == [
        f"CARP_VHID: not set; {VHID}",
        f"CARP_VIPS: not set; {VIPS}",
        f"CARP_PASSWORD_FILE: not set, nor is CARP_PASSWORD; {PASSWORD_FILE}",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "CARP_SIDECAR_SERVICE_HOST",
        "CARP_SIDECAR_SERVICE_PORT",
        "CARP_SIDECAR_SERVICE_PORT_METRICS",
        "CARP_SIDECAR_PORT",
        "CARP_SIDECAR_PORT_9112_TCP",
        "CARP_SIDECAR_PORT_9112_TCP_ADDR",
        "CARP_SIDECAR_PORT_9112_TCP_PORT",
        "CARP_SIDECAR_PORT_9112_TCP_PROTO",
        "CARP_DNS_PORT_53_UDP_ADDR",
        "CARP_SERVICE_HOST",
        "CARP_PORT",
    ],
)
def test_what_kubernetes_injects_for_a_service_is_no_mistake(name: str) -> None:
    assert mistakes(ENOUGH | {name: "tcp://10.96.0.7:9112"}) == []


@pytest.mark.parametrize("name", ["CARP_SIDECAR_PORT_TCP", "CARP_SIDECAR_SERVICE", "CARP_SIDECAR_SERVICE_HOSTS"])
def test_what_only_looks_like_it_is_a_mistake(name: str) -> None:
    assert len(mistakes(ENOUGH | {name: "x"})) == 1


def test_empty_variables_count_as_unset() -> None:
    given = dict.fromkeys(("CARP_INTERFACE", "CARP_ADVSKEW", "CARP_PASSWORD_FILE", "CARP_CONFIG_FILE", "POD_NAME"), "")
    assert load_on_node(ENOUGH | given).plan == load_on_node(ENOUGH).plan


def test_names_are_exact() -> None:
    assert mistakes({"carp_vhid": "1"} | {k: v for k, v in ENOUGH.items() if k != "CARP_VHID"}) == [
        f"CARP_VHID: not set; {VHID}"
    ]


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARP_ADVSKEW", "99")
    assert load_on_node(ENOUGH).plan.groups[0].advskew == 0


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"secret", b"secret"),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\n\n", b"secret"),
        (b"\nsecret\n", b"secret"),
        (b"x" * 20 + b"\n", b"x" * 20),
    ],
)
def test_the_newlines_of_a_password_file_are_no_part_of_the_password(
    tmp_path: Path, content: bytes, key: bytes
) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    loaded = load_on_node(ENOUGH | {"CARP_PASSWORD": "", "CARP_PASSWORD_FILE": str(path)})
    assert loaded.plan.groups[0].key == key.ljust(20, b"\0")
    assert loaded.password_files == {"default": str(path)}


def test_further_lines_of_a_password_file_are_accepted_from_peers(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("new\n\nold\nnew\n")
    (group,) = load_on_node(ENOUGH | {"CARP_PASSWORD": "", "CARP_PASSWORD_FILE": str(path)}).plan.groups
    assert (group.key, group.accepted_keys) == (b"new".ljust(20, b"\0"), (b"old".ljust(20, b"\0"),))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"x" * 21, "has 21 bytes where a password takes at most 20"),
        (b"\xffsecret", "is not UTF-8 text"),
        (b"old\n" + b"x" * 21, "line 2 has 21 bytes where a password takes at most 20"),
        (b"".join(b"%d\n" % n for n in range(9)), "holds 9 passwords where a group takes at most 8"),
        (b"a\0", "has a NUL byte in it, which CARP's zero padding would hide"),
    ],
)
def test_a_bad_password_file(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    given = ENOUGH | {"CARP_PASSWORD": "", "CARP_PASSWORD_FILE": str(path)}
    assert mistakes(given) == [f"CARP_PASSWORD_FILE: '{path}' {fault}; {PASSWORD}"]


def test_warnings_come_with_the_plan() -> None:
    (warning,) = load_on_node(ENOUGH | {"CARP_PASSWORD": "x" * 20}).warnings
    assert warning.startswith("CARP_PASSWORD: the password has 20 bytes where ucarp")


def test_the_environment_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("vhid: 1\nadvskew: 5\nlog_level: debug\nlog_format: text\nnodes: {n7: {advskew: 6, advbase: 2}}\n")
    loaded = load_on_node(ENOUGH | {"CARP_CONFIG_FILE": str(path), "CARP_LOG_LEVEL": "error", "NODE_NAME": "n7"})
    (group,) = loaded.plan.groups
    assert (group.vhid, group.advskew, group.advbase) == (42, 6, 2)
    assert (loaded.plan.log_level, loaded.plan.log_format, loaded.plan.node_name) == ("error", "text", "n7")
    assert loaded.config_file == str(path)


def test_the_host_name_chooses_the_overrides_where_no_node_name_is_given(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("nodes: {host-1: {advskew: 6}}\n")
    assert load_on_node(ENOUGH, default_config_file=path).plan.groups[0].advskew == 6


def test_several_groups_by_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "password: 0123\ngroups:\n- {name: web, vhid: 1, vips: [10.0.0.8]}\n- {name: db, vhid: 2, vips: 192.168.1.9}\n"
    )
    web, db = load_on_node({"CARP_ADVSKEW": "9"}, default_config_file=path).plan.groups
    assert (web.name, web.interface, db.name, db.interface) == ("web", "eth0", "db", "eth1")
    assert (web.advskew, db.advskew, web.key) == (9, 9, b"0123".ljust(20, b"\0"))


def test_mistakes_in_the_file_name_file_and_place(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("groups:\n- {name: web, vhid: 256, vips: 10.0.0.8, password: x}\n- {name: db, vhdi: 2}\n")
    assert mistakes({}, default_config_file=path) == [
        f"{path}: groups[0].vhid: 256 is out of range; {VHID}",
        f"{path}: groups[1].vhdi: unknown key; did you mean vhid?",
        f"{path}: groups[1].vhid: not set; {VHID}",
        f"{path}: groups[1].vips: not set; {VIPS}",
        f"{path}: groups[1].password_file: not set, nor is password; {PASSWORD_FILE}",
    ]


def test_a_broken_file_is_the_only_thing_said_about_what_it_may_hold(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: b: c\n")
    assert mistakes({"CARP_ADVSKEW": "x"}, default_config_file=path) == [
        "CARP_ADVSKEW: 'x' is not a whole number; "
        "use a whole number of 1/256 s from 0 to 254; the node with the lowest is the preferred master",
        f"{path}: the file is not valid YAML at line 1, column 5 (mapping values are not allowed here); "
        "correct that line or the one before it",
    ]


POD = {"POD_NAME": "carp-x7k2p", "POD_NAMESPACE": "net"}
IN_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}


@pytest.mark.parametrize(
    ("given", "on"),
    [
        ({}, False),
        (POD, False),
        (POD | IN_POD, True),
        (POD | IN_POD | {"CARP_KUBERNETES": "on"}, True),
        (POD | IN_POD | {"CARP_KUBERNETES": "OFF"}, False),
        (IN_POD | {"CARP_KUBERNETES": "off"}, False),
        (POD | {"KUBECONFIG": __file__}, True),
        ({"KUBECONFIG": "/nonexistent", "CARP_KUBERNETES": "off"}, False),
    ],
)
def test_where_the_mirror_is_on(given: dict[str, str], on: bool) -> None:
    assert (load_on_node(ENOUGH | given).plan.kubernetes is not None) is on


def test_what_the_mirror_is_told() -> None:
    given = POD | {"KUBECONFIG": __file__, "CARP_ROLE_LABEL": "example.com/role"}
    told = KubernetesPlan(
        pod_name="carp-x7k2p", pod_namespace="net", role_label="example.com/role", kubeconfig=__file__, events=True
    )
    assert load_on_node(ENOUGH | given).plan.kubernetes == told
    features = {"CARP_READINESS_CONDITION": "true", "CARP_LEASE_WITNESS": "true", "CARP_EVENTS": "false"}
    features |= {"CARP_NODE_EVENTS": "true"}
    assert load_on_node(ENOUGH | given | features).plan.kubernetes == msgspec.structs.replace(
        told, readiness_condition=True, lease_witness=True, events=False, node_events=True
    )


def test_what_a_group_shows_in_kubernetes() -> None:
    given = {
        "CARP_TARGET_SELECTOR": "app=web, tier in (front, edge), !canary",
        "CARP_ENDPOINT_SLICE": "web",
        "CARP_LOAD_BALANCER_CLASS": "example.com/carp",
    }
    assert load_on_node(ENOUGH | POD | given).plan.groups[0].mirror == MirrorPlan(
        target_selector="app=web, tier in (front, edge), !canary",
        endpoint_slice="web",
        load_balancer_class="example.com/carp",
    )


def test_the_mirror_needs_to_know_its_pod() -> None:
    needs = "not set, and the mirror into Kubernetes (CARP_KUBERNETES: auto) needs it; "
    path, off = "set it with valueFrom.fieldRef.fieldPath: metadata", "or set CARP_KUBERNETES=off"
    assert mistakes(ENOUGH | IN_POD) == [
        f"POD_NAME: {needs}{path}.name, {off}",
        f"POD_NAMESPACE: {needs}{path}.namespace, {off}",
    ]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"CARP_KUBERNETES": "on"},
            "CARP_KUBERNETES: on, but this is no pod and KUBECONFIG is not set; set KUBECONFIG, or set it to off",
        ),
        (
            {"KUBECONFIG": "/nonexistent/config"},
            "KUBECONFIG: '/nonexistent/config' is no file; use the path of a kubeconfig file, or unset it",
        ),
        (
            {"KUBECONFIG": "/" + "x" * 260},
            f"KUBECONFIG: '/{'x' * 254}' ... is no file; use the path of a kubeconfig file, or unset it",
        ),
        (
            IN_POD | {"POD_NAME": "Pod"},
            "POD_NAME: 'Pod' is not a Kubernetes name; set it with valueFrom.fieldRef.fieldPath: metadata.name",
        ),
    ],
)
def test_mistakes_of_the_mirror(given: dict[str, str], line: str) -> None:
    assert mistakes(ENOUGH | POD | given) == [line]


def test_what_one_master_owns_is_named_in_one_group_only(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "password: x\nload_balancer_class: carp/vip\ngroups:\n"
        "- {name: a, vhid: 1, vips: 10.0.0.8, endpoint_slice: web, target_selector: app=a}\n"
        "- {name: b, vhid: 2, vips: 10.0.0.9, endpoint_slice: web, target_selector: app=a}\n"
    )
    told = mistakes(POD | {"KUBERNETES_SERVICE_HOST": "x", "CARP_CONFIG_FILE": str(path)})
    assert [line.removeprefix(f"{path}: ") for line in told] == [
        "groups[1].endpoint_slice: web belongs to group 'a' already; name each in one group only",
        "load_balancer_class: carp/vip belongs to group 'a' already; name each in one group only",
    ]
    assert mistakes(ENOUGH | POD | {"CARP_TARGET_SELECTOR": "app in web"}) == [
        "CARP_TARGET_SELECTOR: 'app' ... is not a Kubernetes label selector; use a label selector as kubectl -l "
        "takes it, such as app=web, or leave it unset"
    ]


def test_the_label_of_each_of_several_groups_has_to_fit(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    name = "g" * 60
    path.write_text(
        f"password: x\ngroups: [{{name: {name}, vhid: 1, vips: 10.0.0.8}}, {{name: b, vhid: 2, vips: 10.0.0.9}}]\n"
    )
    assert mistakes(POD | IN_POD, default_config_file=path) == [
        f"CARP_ROLE_LABEL: with the group's name it becomes carp-role-{name}, 70 characters long; "
        "shorten it or the name, a Kubernetes label takes 63"
    ]


def test_interfaces_are_asked_for_once() -> None:
    calls = []

    def interfaces() -> Sequence[Interface]:
        calls.append(1)
        return INTERFACES

    load(ENOUGH, interfaces=interfaces, hostname=lambda: "n", default_config_file="/nonexistent")
    assert calls == [1]


def test_no_secret_in_an_error_or_behind_it() -> None:
    with pytest.raises(SettingsError) as raised:
        load_on_node(ENOUGH | {"CARP_PASSWORD": "hunter2" * 3})
    assert "hunter2" not in f"{raised.value!r}{raised.value!s}{raised.value.args}"
    assert raised.value.__cause__ is raised.value.__context__ is None


def test_children_get_a_clean_environment() -> None:
    kept = {
        "PATH": "/bin", "HOME": "/", "LANG": "C.UTF-8", "LC_ALL": "C", "TZ": "UTC", "SSL_CERT_FILE": "/ca",
        "SSL_CERT_DIR": "/cas", "HTTPS_PROXY": "http://p", "https_proxy": "http://p", "NO_PROXY": "x", "no_proxy": "x",
        "HTTP_PROXY": "p", "http_proxy": "p", "KUBERNETES_SERVICE_HOST": "h", "KUBERNETES_SERVICE_PORT": "443",
        "KUBECONFIG": "/k", "PYTHONPATH": "/src", "RES_OPTIONS": "timeout:3",
    }  # fmt: skip
    dropped = {
        "CARP_PASSWORD": "hunter2", "CARP_VHID": "1", "CARP_SIDECAR_SERVICE_HOST": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "POD_NAME": "x", "PYTHONSTARTUP": "/evil", "LD_PRELOAD": "/evil", "LC_password": "x", "XPATH": "x",
    }  # fmt: skip
    assert environment_for_children(kept | dropped) == kept


def test_children_do_not_wait_long_for_a_name_server_unless_told_to() -> None:
    assert environment_for_children({"PATH": "/bin"}) == {"PATH": "/bin", "RES_OPTIONS": "timeout:1 attempts:2"}


# Commands ------------------------------------------------------------------------------------------------------------

COMMAND = "use the absolute path of an executable file, or unset it"


def test_commands_reach_the_plan() -> None:
    given = {"CARP_UP_COMMAND": "/bin/sh -x", "CARP_DOWN_COMMAND": "/bin/sh", "CARP_XPARAM": "x y"}
    (group,) = load_on_node(ENOUGH | given | {"CARP_SHUTDOWN": "no", "CARP_IGNORE_LINK": "yes"}).plan.groups
    assert (group.up_command, group.down_command, group.xparam) == (("/bin/sh", "-x"), ("/bin/sh",), "x y")
    assert (group.neutral, group.shutdown, group.ignore_link) == (False, False, True)


def test_a_command_that_cannot_be_run_is_found_at_start_up(tmp_path: Path) -> None:
    plain = tmp_path / "up.sh"
    plain.write_text("#!/bin/sh\n")
    plain.chmod(0o644)
    given = {"CARP_UP_COMMAND": str(plain), "CARP_DOWN_COMMAND": f"{tmp_path} x"}
    assert mistakes(ENOUGH | given) == [
        f"CARP_UP_COMMAND: {str(plain)!r} is not executable; "
        "make it executable: chmod +x, or defaultMode: 0755 where it comes from a ConfigMap",
        f"CARP_DOWN_COMMAND: {str(tmp_path)!r} is no file; {COMMAND}",
    ]
    plain.chmod(0o755)
    assert mistakes(ENOUGH | {"CARP_UP_COMMAND": str(plain)}) == []
    assert mistakes(ENOUGH | {"CARP_UP_COMMAND": "/nonexistent/up.sh"}) == [
        f"CARP_UP_COMMAND: '/nonexistent/up.sh' is no file; {COMMAND}"
    ]


def test_a_warning_of_what_groups_share_is_told_once(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "password: x\nreplay: compat\nclock_skew: 30\npreempt_delay: 30s\n"
        "groups: [{name: a, vhid: 1, vips: 10.0.0.8, preempt: on}, {name: b, vhid: 2, vips: 10.0.0.9}]"
    )
    assert load_on_node({}, default_config_file=config).warnings == (
        f"{config}: clock_skew: has no effect with {config}: replay=compat",
        f"{config}: preempt_delay: has no effect unless {config}: groups[1].preempt is true",
    )


@pytest.mark.parametrize(
    ("given", "listen"),
    [
        ({}, "127.0.0.1:9112"),
        ({"CARP_HTTP_LISTEN": "[::]:80"}, "[::]:80"),
        ({"CARP_HTTP_LISTEN": "off"}, ""),
        ({"CARP_HTTP_LISTEN": ""}, ""),
    ],
)
def test_the_http_listener_is_on_loopback_elsewhere_or_off(given: dict[str, str], listen: str) -> None:
    assert load_on_node(ENOUGH | given).plan.http_listen == listen


def test_the_listener_knows_its_pod_without_the_mirror_too() -> None:
    plan = load_on_node(ENOUGH | POD | {"CARP_KUBERNETES": "off"}).plan
    assert (plan.kubernetes, plan.pod) == (None, "net/carp-x7k2p")
    assert load_on_node(ENOUGH).plan.pod == ""


def test_a_wrong_address_to_listen_at_is_told_with_the_remedy() -> None:
    assert mistakes(ENOUGH | {"CARP_HTTP_LISTEN": "localhost:9112"}) == [
        "CARP_HTTP_LISTEN: 'localhost' is not an IPv4 address; use address:port, such as 127.0.0.1:9112 or "
        "[::]:9112, or off"
    ]
