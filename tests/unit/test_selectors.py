from typing import Any

import pytest

from sidecar.demo.selectors import SelectorError, selector

POD: dict[str, Any] = {
    "metadata": {"name": "a", "namespace": "n", "labels": {"app": "x", "carp-role": "master", "k8s.io/part": "y"}},
    "spec": {"nodeName": "node-1"},
    "status": {"phase": "Running"},
}
BARE: dict[str, Any] = {"metadata": {"name": "b"}}


@pytest.mark.parametrize(
    ("labels", "pod", "bare"),
    [
        ("", True, True),
        ("carp-role=master", True, False),
        ("carp-role==master", True, False),
        ("carp-role=backup", False, False),
        ("carp-role!=master", False, True),
        ("carp-role in (master, backup)", True, False),
        ("carp-role notin (master,backup)", False, True),
        ("carp-role in (backup)", False, False),
        ("carp-role", True, False),
        ("!carp-role", False, True),
        ("app=x,carp-role in (master,backup),k8s.io/part", True, False),
        ("app=x,carp-role=backup", False, False),
        (" app = x , !none ", True, False),
        ("none=", False, False),
    ],
)
def test_label_selectors(labels: str, pod: bool, bare: bool) -> None:
    wanted = selector(labels, "")
    assert (wanted(POD), wanted(BARE)) == (pod, bare)


@pytest.mark.parametrize(
    ("fields", "pod", "bare"),
    [
        ("metadata.name=a", True, False),
        ("metadata.name!=a", False, True),
        ("metadata.namespace=n", True, False),
        ("spec.nodeName=node-1,status.phase==Running", True, False),
        ("spec.nodeName=", False, True),
    ],
)
def test_field_selectors(fields: str, pod: bool, bare: bool) -> None:
    wanted = selector("", fields)
    assert (wanted(POD), wanted(BARE)) == (pod, bare)


def test_both_selectors_must_hold() -> None:
    assert not selector("carp-role=master", "metadata.name=b")(POD)


@pytest.mark.parametrize("labels", ["=", "a===b", "a in x", "a,,b", "-a", "a in (x", "a b"])
def test_text_that_is_no_label_selector(labels: str) -> None:
    with pytest.raises(SelectorError, match="unable to parse requirement"):
        selector(labels, "")


@pytest.mark.parametrize("fields", ["spec.hostNetwork=true", "metadata.name", "x"])
def test_fields_that_cannot_be_selected(fields: str) -> None:
    with pytest.raises(SelectorError, match="field label not supported"):
        selector("", fields)
