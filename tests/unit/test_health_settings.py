"""The list ``health:`` from the environment and the file, to the plan or to one line for each mistake."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
import yaml

from sidecar.config.effective import effective_dict
from sidecar.config.probes import ProbeKeys
from sidecar.config.settings import Loaded
from sidecar.ipc.plan import ProbeKind, ProbePlan
from tests.fakes.node import ENOUGH, load_on_node, mistakes

NAME = "give each probe of a group a name of its own, such as app"
URL = "use http:// or https://, an address, and a port and a path, such as http://127.0.0.1:8080/healthz"
ADDRESS = "use address:port, such as 127.0.0.1:5432 or [::1]:5432"
PROGRAM = "use the absolute path of an executable file and its arguments, as a list or as one text"
SECONDS = "use a time from 100ms to 1h, such as 2s"
LIST = "use a list of probes, such as [{name: app, http: 'http://127.0.0.1:8080/healthz'}]"


def by_environment(text: str, **more: str) -> Loaded:
    return load_on_node({**ENOUGH, "CARP_HEALTH": text, **more})


def by_file(tmp_path: Path, text: str) -> Loaded:
    path = tmp_path / "config.yaml"
    path.write_text(textwrap.dedent(text))
    return load_on_node({"CARP_PASSWORD": "correct horse", "CARP_CONFIG_FILE": str(path)})


def one(text: str, **more: str) -> ProbePlan:
    (plan,) = by_environment(text, **more).plan.health
    return plan


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("http: 'http://127.0.0.1:8080/healthz?deep=1'", ProbeKind.HTTP, "http://127.0.0.1:8080/healthz?deep=1"),
        ("http: 'HTTPS://[::1]'", ProbeKind.HTTP, "https://[::1]/"),
        ("http: 'http://localhost:80/'", ProbeKind.HTTP, "http://127.0.0.1:80/"),
        ("tcp: '127.0.0.1:5432'", ProbeKind.TCP, "127.0.0.1:5432"),
        ("tcp: '[::0001]:5432'", ProbeKind.TCP, "[::1]:5432"),
        ("tcp: 'localhost:5432'", ProbeKind.TCP, "127.0.0.1:5432"),
        ("exec: /bin/test -e '/a b'", ProbeKind.EXEC, ("/bin/test", "-e", "/a b")),
        ("exec: [/bin/test, -e, $HOME]", ProbeKind.EXEC, ("/bin/test", "-e", "$HOME")),
        ("file: /run/ready", ProbeKind.FILE, "/run/ready"),
        ("gateway: true", ProbeKind.GATEWAY, "eth0"),
    ],
)
def test_what_is_asked(text: str, kind: ProbeKind, target: str | tuple[str, ...]) -> None:
    plan = one(f"[{{name: app, {text}}}]")
    assert (plan.kind, plan.target) == (kind, (target,) if isinstance(target, str) else target)
    assert plan == ProbePlan(name="app", kind=plan.kind, target=plan.target), "the plan's defaults are the settings'"


def test_the_environment_takes_yaml_and_json_and_the_file_a_list(tmp_path: Path) -> None:
    entry = {
        "name": "app",
        "tcp": "127.0.0.1:80",
        "interval": "500ms",
        "timeout": "2",
        "rise": 1,
        "fall": 5,
        "weight": 9,
    }
    wanted = ProbePlan(
        name="app", kind=ProbeKind.TCP, target=("127.0.0.1:80",), interval=0.5, timeout=2.0, rise=1, fall=5, weight=9
    )
    assert one(json.dumps([entry])) == one(yaml.safe_dump([entry])) == wanted
    group = yaml.safe_dump({"vhid": 42, "vips": ["10.0.0.200"], "health": [entry]})
    assert by_file(tmp_path, group).plan.health == (wanted,)


def test_the_groups_own_list_stands_instead_of_the_top_levels_and_the_nodes_instead_of_both(tmp_path: Path) -> None:
    loaded = by_file(
        tmp_path,
        """
        health: [{name: all, file: /a}]
        groups:
          - {name: web, vhid: 1, vips: 10.0.0.201}
          - {name: db, vhid: 2, vips: 10.0.0.202, health: [{name: db, file: /b}, {name: all, file: /a}]}
          - {name: mail, vhid: 3, vips: 10.0.0.203, health: []}
          - {name: dns, vhid: 4, vips: 10.0.0.204, health: [{name: dns, file: /c}]}
        nodes:
          host-1: {groups: {dns: {health: [{name: here, file: /d}]}}}
          host-2: {health: []}
        """,
    )
    assert [(probe.name, probe.target, probe.groups) for probe in loaded.plan.health] == [
        ("all", ("/a",), ("web", "db")),
        ("db", ("/b",), ("db",)),
        ("here", ("/d",), ("dns",)),
    ]


def test_what_all_groups_have_alike_is_asked_once_and_each_interface_has_a_gateway_of_its_own(tmp_path: Path) -> None:
    loaded = by_file(
        tmp_path,
        """
        health: [{name: app, file: /a}, {name: uplink, gateway: true}]
        groups:
          - {name: web, vhid: 1, vips: 10.0.0.201}
          - {name: db, vhid: 1, vips: 192.168.1.202}
        """,
    )
    assert [(probe.name, probe.target, probe.groups) for probe in loaded.plan.health] == [
        ("app", ("/a",), ()),
        ("uplink", ("eth0",), ("web",)),
        ("uplink", ("eth1",), ("db",)),
    ]


def test_an_empty_list_is_none_and_an_empty_value_is_not_given(tmp_path: Path) -> None:
    assert by_environment("[]").plan.health == ()
    assert by_environment("").plan.health == ()
    path = tmp_path / "c.yaml"
    path.write_text("health: [{name: a, file: /a}]")
    for text, count in (("[]", 0), ("", 1)):
        environ = {**ENOUGH, "CARP_CONFIG_FILE": str(path), "CARP_HEALTH": text}
        assert len(load_on_node(environ).plan.health) == count


def test_check_shows_the_probes_of_each_group() -> None:
    loaded = by_environment(
        "[{name: a, file: /a, max_age: 30}, {name: b, exec: [/bin/test, x]}, {name: c, tcp: '[::1]:1'}]"
    )
    common = {"interval": "2s", "timeout": "1s", "rise": 2, "fall": 3, "weight": 240}
    assert effective_dict(loaded)["groups"][0]["health"] == [
        {"name": "a", "file": "/a", **common, "max_age": "30s"},
        {"name": "b", "exec": ["/bin/test", "x"], **common},
        {"name": "c", "tcp": "[::1]:1", **common},
    ]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("{file: /a}", f"[0].name: not set; {NAME}"),
        ("{name: '', file: /a}", f"[0].name: not set; {NAME}"),
        (
            "{name: A, file: /a}",
            "[0].name: 'A' is not a DNS label; use at most 63 of a-z, 0-9 and -, with no - at either end",
        ),
        (
            "{name: a}",
            "[0]: asks nothing; give it one of http, tcp, exec, file, container, node_condition, gateway",
        ),
        (
            "{name: a, gateway: false}",
            "[0]: asks nothing; give it one of http, tcp, exec, file, container, node_condition, gateway",
        ),
        (
            "{name: a, file: /a, gateway: true}",
            "[0]: asks 2 things at once; give it one of http, tcp, exec, file, container, node_condition, gateway",
        ),
        ("{name: a, file: /a, intervall: 2s}", "[0].intervall: unknown key; did you mean interval?"),
        ("{name: a, file: /a, interval: 2x}", f"[0].interval: '2x' is not a time; {SECONDS}"),
        ("{name: a, file: /a, interval: 0s}", f"[0].interval: '0s' is out of range; {SECONDS}"),
        (
            "{name: a, file: /a, timeout: 2h}",
            "[0].timeout: '2h' is out of range; use a time from 100ms to 1h, such as 1s",
        ),
        ("{name: a, file: /a, rise: 0}", "[0].rise: 0 is out of range; use a whole number of probes from 1 to 1000"),
        (
            "{name: a, file: /a, fall: x}",
            "[0].fall: 'x' is not a whole number; use a whole number of probes from 1 to 1000",
        ),
        (
            "{name: a, file: /a, weight: 256}",
            "[0].weight: 256 is out of range; use a whole number from 1 to 255, the same on every node; 240 lets "
            "anybody else be master",
        ),
        ("{name: a, file: a}", "[0].file: 'a' is not an absolute path; use the absolute path of a file"),
        ("{name: a, gateway: maybe}", "[0].gateway: 'maybe' is neither true nor false; use true, or leave it out"),
        ("{name: a, tcp: '127.0.0.1:80', max_age: 9}", "[0].max_age: is for probes of a file; leave it out"),
        (
            "{name: a, http: example.org}",
            f"[0].http: 'example.org' is not a URL that begins with http:// or https://; {URL}",
        ),
        ("{name: a, http: 'http://web/'}", f"[0].http: 'http://web/' does not name its host by an address; {URL}"),
        ("{name: a, http: 'http://127.0.0.1:0/'}", f"[0].http: port 0 is out of range; {URL}"),
        (
            "{name: a, http: 'http://me:hunter2@127.0.0.1/'}",
            "[0].http: has a user or a password in it; leave it out, and let the application answer without",
        ),
        ("{name: a, tcp: '127.0.0.1'}", f"[0].tcp: '127.0.0.1' is not address:port; {ADDRESS}"),
        ("{name: a, tcp: 'db:5432'}", f"[0].tcp: 'db:5432' does not name its host by an address; {ADDRESS}"),
        ("{name: a, tcp: '::1:5432'}", f"[0].tcp: '::1:5432' does not name its host by an address; {ADDRESS}"),
        ("{name: a, tcp: '127.0.0.1:65536'}", f"[0].tcp: port 65536 is out of range; {ADDRESS}"),
        ("{name: a, exec: check}", f"[0].exec: 'check' does not begin with an absolute path; {PROGRAM}"),
        ("{name: a, exec: [check]}", f"[0].exec: does not begin with an absolute path; {PROGRAM}"),
        ("{name: a, exec: []}", f"[0].exec: does not begin with an absolute path; {PROGRAM}"),
        ("{name: a, exec: [/bin/test, [x]]}", f"[0].exec: has something else than text among its words; {PROGRAM}"),
        ("{name: a, exec: /nonexistent}", f"[0].exec: '/nonexistent' is no file; {PROGRAM}"),
        (
            "{name: a, exec: /etc/passwd}",
            "[0].exec: '/etc/passwd' is not executable; make it executable: chmod +x, or defaultMode: 0755 where it "
            "comes from a ConfigMap",
        ),
        (
            "{name: a, node_condition: Ready=Maybe}",
            "[0].node_condition: 'Ready=Maybe' is not a condition; use a condition of the Node, such as Ready, or with "
            "its status, such as DiskPressure=False",
        ),
        (
            "{name: a, container: app}",
            "[0].container: asks Kubernetes, which this sidecar does not speak to; set CARP_KUBERNETES=on, or leave "
            "this probe out",
        ),
        (
            "{name: a, node_condition: Ready}",
            "[0].node_condition: asks Kubernetes, which this sidecar does not speak to; set CARP_KUBERNETES=on, or "
            "leave this probe out",
        ),
        ("/a", "[0]: is not a mapping; write it as {name: app, http: 'http://127.0.0.1:8080/healthz'}"),
        ("{name: a, file: /a}, {name: a, file: /b}", f": a is there twice; {NAME}"),
    ],
)
def test_one_line_for_each_mistake(entry: str, line: str) -> None:
    assert mistakes({**ENOUGH, "CARP_HEALTH": f"[{entry}]"}) == [f"CARP_HEALTH{line}"]


@pytest.mark.parametrize("text", ["x", "{name: a, file: /a}", "[", "!!int 3", "null"])
def test_what_is_no_list(text: str) -> None:
    assert mistakes({**ENOUGH, "CARP_HEALTH": text}) == [
        f"CARP_HEALTH: is not a list of probes in YAML or JSON; {LIST}"
    ]


def test_too_many() -> None:
    text = json.dumps([{"name": f"p{number}", "file": "/a"} for number in range(17)])
    assert mistakes({**ENOUGH, "CARP_HEALTH": text}) == ["CARP_HEALTH: has 17 probes; use at most 16 in one group"]


def test_every_mistake_at_once_and_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "health: [{name: a, file: a, fall: 0}, {name: b}]\ngroups: [{name: web, vhid: 1, vips: 10.0.0.9, health: x}]\n"
        "nodes: {n9: {health: [{name: a, flie: /a}]}}\n"
    )
    found = mistakes({"CARP_PASSWORD": "x", "CARP_CONFIG_FILE": str(path)})
    assert sorted(line.removeprefix(f"{path}: ").split(":")[0] for line in found) == [
        "groups[0].health",
        "health[0].fall",
        "health[0].file",
        "health[1]",
        "nodes.n9.health[0]",
        "nodes.n9.health[0].flie",
    ]


def test_kubernetes_may_be_asked_where_there_is_a_mirror(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("{}")
    pod = {"KUBECONFIG": str(kubeconfig), "POD_NAME": "a", "POD_NAMESPACE": "b"}
    assert one("[{name: a, container: app}]", **pod).target == ("app",)
    assert one("[{name: a, node_condition: Ready}]", **pod).target == ("Ready=True",)
    assert one("[{name: a, node_condition: example.org/Sick=False}]", **pod).target == ("example.org/Sick=False",)


def test_every_kind_is_a_key() -> None:
    assert {kind.value for kind in ProbeKind} < ProbeKeys.model_fields.keys()
