"""What the node's object says: what is kept of it, what the engine is told, what stays over a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.ipc.messages import Demote, NodeSays, Promote
from sidecar.ipc.plan import KubernetesPlan
from sidecar.node_word import FILE_NAME, NodeWord, instructions

OFF = KubernetesPlan(pod_name="carp-1", pod_namespace="edge", role_label="carp-role", kubeconfig="")
ON = replace(OFF, node_annotations=True, cordon=True)
SAYS = NodeSays(maintenance="new disks", advskew=7, cordoned=True)


@pytest.fixture
def word(tmp_path: Path) -> NodeWord:
    return NodeWord(tmp_path)


def test_only_what_the_settings_ask_for_is_obeyed(word: NodeWord) -> None:
    word.heard(SAYS)
    assert word.of(ON) == SAYS
    assert word.of(replace(OFF, node_annotations=True)) == replace(SAYS, cordoned=False)
    assert word.of(replace(OFF, cordon=True)) == NodeSays(cordoned=True)
    assert word.of(OFF) == word.of(None) == NodeSays()


def test_an_advskew_that_is_refused_leaves_the_one_before_in_force_and_obeys_the_rest(word: NodeWord) -> None:
    word.heard(SAYS)
    word.heard(NodeSays(refused="no number"))
    assert word.of(ON) == NodeSays(advskew=7)
    word.heard(NodeSays(advskew=255))
    assert word.of(ON) == NodeSays(advskew=7), "an agent that is beside itself"
    word.heard(NodeSays())
    assert word.of(ON) == NodeSays()


def test_it_stands_over_a_restart(word: NodeWord, tmp_path: Path) -> None:
    word.heard(SAYS)
    again = NodeWord(tmp_path)
    again.load()
    assert again.of(ON) == SAYS
    again.heard(NodeSays())
    third = NodeWord(tmp_path)
    third.load()
    assert third.of(ON) == NodeSays()


@pytest.mark.parametrize("content", [b"", b"{", b'{"kind":"NodeSays","advskew":255}', b"\xff", b'{"kind":"Stop"}'])
def test_a_file_that_holds_something_else_counts_for_nothing(word: NodeWord, tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    word.load()
    assert word.of(ON) == NodeSays()


def test_without_a_place_to_keep_it_it_is_obeyed_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    word = NodeWord(tmp_path / "gone")
    word.load()
    word.heard(SAYS)
    word.heard(SAYS)
    assert word.of(ON) == SAYS
    (line,) = caplog.messages
    assert line.startswith(f"cannot write {tmp_path}/gone/node: ")


def test_a_reason_is_one_line(word: NodeWord) -> None:
    word.heard(NodeSays(maintenance="two\nlines " + "x" * 900))
    assert word.of(ON).maintenance == ("two lines " + "x" * 900)[:200]


def test_each_source_is_a_demotion_of_its_own_and_is_given_back_by_its_name() -> None:
    assert instructions(NodeSays(maintenance="new disks", cordoned=True)) == (
        Demote(name="node-maintenance", weight=240, detail="annotation carp-sidecar/maintenance: new disks"),
        Demote(name="cordon", weight=240, detail="the node is cordoned"),
    )
    assert instructions(NodeSays(advskew=3)) == (Promote(name="node-maintenance"), Promote(name="cordon"))
