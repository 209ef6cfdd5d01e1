"""The canonical settings survive their document, and the key is never shown."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.ipc.messages import StartGroup
from sidecar.ipc.plan import GroupPlan, KubernetesPlan, Plan, decode_plan, encode_plan

SECRET = b"correct horse batter"
INT64 = st.integers(-(2**63), 2**63 - 1)


def group(**changes: object) -> GroupPlan:
    plan = GroupPlan(
        name="web",
        interface="eth0",
        vhid=42,
        vips=("10.0.0.200/32", "fd00::200/128"),
        source="10.0.0.11",
        key=SECRET,
        advbase=1,
        advskew=0,
        dead_ratio=3,
        preempt=False,
        multicast_group="224.0.0.18",
    )
    return msgspec.structs.replace(plan, **changes)


def plan(*groups: GroupPlan) -> Plan:
    return Plan(
        node_name="node-1",
        runtime_dir="/run/carp-sidecar",
        log_level="info",
        log_format="json",
        groups=groups,
        kubernetes=KubernetesPlan(pod_name="pod", pod_namespace="default", role_label="carp-role", kubeconfig=""),
    )


@given(
    st.builds(
        Plan,
        groups=st.lists(
            st.builds(GroupPlan, vhid=INT64, advbase=INT64, advskew=INT64, dead_ratio=INT64), max_size=3
        ).map(tuple),
    )
)
def test_every_plan_comes_back_as_it_was(given_plan: Plan) -> None:
    assert decode_plan(encode_plan(given_plan)) == given_plan


@pytest.mark.parametrize("document", [b"", b"{}", b"[1]", encode_plan(plan(group()))[:-1], b'{"groups":[]}'])
def test_another_document_is_refused(document: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_plan(document)


def test_an_unknown_field_is_refused() -> None:
    document = msgspec.json.decode(encode_plan(plan(group())))
    document["groups"][0]["extra"] = 1
    with pytest.raises(msgspec.ValidationError, match="extra"):
        decode_plan(msgspec.json.encode(document))


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format])
@pytest.mark.parametrize(
    "holder", [group(), (group(),), plan(group(), group(name="db")), StartGroup(group=group(), resume=True)]
)
def test_no_text_of_a_plan_shows_the_key(show: Callable[[object], str], holder: object) -> None:
    text = show(holder)
    assert "web" in text
    assert "correct" not in text
    assert "key" not in text
    for form in (SECRET.hex(), msgspec.json.encode(SECRET).decode().strip('"')):
        assert form not in text
