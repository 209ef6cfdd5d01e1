from __future__ import annotations

import pytest

from sidecar.config.document import parse
from sidecar.config.file import File, read_file
from sidecar.config.layers import Problems, values_of

SEVERAL = """
advskew: 10
log_level: debug
groups:
- {name: web, vhid: 1}
- {name: db, vhid: 2}
nodes:
  n1: {advskew: 0, groups: {db: {advskew: 77}}}
  n2: {advskew: 200}
  n3:
"""

NO_LIST = "f: groups: is not a list with at least one group; write - name: ... per group, or remove it"
NO_MAPPING = ": is not a mapping; write its settings as key: value below it"


def read(text: str, *, node: str = "n1") -> tuple[File, list[str]]:
    problems = Problems()
    file = read_file(parse(text.encode()), path="f", node=node, problems=problems)
    return file, list(problems.lines)


def test_the_layers_of_a_node() -> None:
    file, lines = read(SEVERAL)
    assert lines == []
    assert values_of(file.top) == {"advskew": 10, "log_level": "debug"}
    assert [(entry.name, values_of(entry.layer)) for entry in file.entries or ()] == [
        ("web", {"vhid": 1}),
        ("db", {"vhid": 2}),
    ]
    assert values_of(file.node) == {"advskew": 0}
    assert {name: values_of(layer) for name, layer in file.node_groups.items()} == {"db": {"advskew": 77}}


@pytest.mark.parametrize("node", ["n3", "n4"])
def test_a_node_without_overrides(node: str) -> None:
    file, lines = read(SEVERAL, node=node)
    assert (lines, file.node, file.node_groups) == ([], {}, {})


def test_an_empty_file_is_no_mistake() -> None:
    file, lines = read("# nothing yet\n")
    assert (lines, file.top, file.entries) == ([], {}, None)


def test_a_single_group_is_named_default() -> None:
    file, lines = read("vhid: 1\nnodes: {n1: {groups: {default: {advskew: 3}}}}\n")
    assert lines == []
    assert values_of(file.node_groups["default"]) == {"advskew": 3}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("- a\n", ["f: the file holds a list where a mapping belongs; write settings as key: value"]),
        ("hello\n", ["f: the file holds a bare value where a mapping belongs; write settings as key: value"]),
        ("vhdi: 1\n", ["f: vhdi: unknown key; did you mean vhid?"]),
        ("pod_name: x\n", ["f: pod_name: unknown key; set it in the environment, as POD_NAME"]),
        ("password hunter2: x\n", ["f: 'password' ...: unknown key; did you mean password?"]),
        ("'': x\n", ["f: '': unknown key; remove it (the nearest known one is address_family)"]),
        ("groups: 3\n", [NO_LIST]),
        ("groups: []\n", [NO_LIST]),
        ("groups: [3]\n", ["f: groups[0]" + NO_MAPPING]),
        ("groups: [{vhdi: 1, name: a}]\n", ["f: groups[0].vhdi: unknown key; did you mean vhid?"]),
        ("groups: [{vhid: 1}]\n", ["f: groups[0].name: not set; give each group a name of its own, such as web"]),
        (
            "groups: [{name: Web}]\n",
            ["f: groups[0].name: 'Web' is not a DNS label; use at most 63 of a-z, 0-9 and -, with no - at either end"],
        ),
        (
            "groups: [{name: a}, {name: a}]\n",
            ["f: groups[1].name: 'a' is groups[0] already; give each group its own name"],
        ),
        (
            "groups: [{name: a, log_level: info}]\n",
            [
                "f: groups[0].log_level: unknown key; "
                "move it to the top level of the file, since it holds for all groups and nodes"
            ],
        ),
        ("nodes: [n1]\n", ["f: nodes" + NO_MAPPING]),
        ("nodes: {n1: 3}\n", ["f: nodes.n1" + NO_MAPPING]),
        ("nodes: {n1: {groups: 3}}\n", ["f: nodes.n1.groups" + NO_MAPPING]),
        ("nodes: {n9: {advskew: 999}}\n", [
            "f: nodes.n9.advskew: 999 is out of range; "
            "use a whole number of 1/256 s from 0 to 254; the node with the lowest is the preferred master"
        ]),
        (
            "groups: [{name: web}]\nnodes: {n1: {groups: {wbe: {vhid: 1}}}}\n",
            ["f: nodes.n1.groups.wbe: unknown group; did you mean web?"],
        ),
        (
            "nodes: {n1: {groups: {default: {preempt: perhaps}}}}\n",
            ["f: nodes.n1.groups.default.preempt: 'perhaps' is neither true nor false; use true or false"],
        ),
    ],
)  # fmt: skip
def test_each_mistake_names_its_place(text: str, lines: list[str]) -> None:
    assert read(text)[1] == lines
