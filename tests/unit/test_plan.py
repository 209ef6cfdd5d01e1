"""The canonical settings survive their document, and the key is never shown."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.ipc.messages import StartGroup
from sidecar.ipc.plan import GroupPlan, Plan, decode_plan, encode_plan
from tests.fakes.plans import KEY, group_plan, node_plan

INT64 = st.integers(-(2**63), 2**63 - 1)


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


@pytest.mark.parametrize("document", [b"", b"{}", b"[1]", encode_plan(node_plan(group_plan()))[:-1], b'{"groups":[]}'])
def test_another_document_is_refused(document: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_plan(document)


def test_an_unknown_field_is_refused() -> None:
    document = msgspec.json.decode(encode_plan(node_plan(group_plan())))
    document["groups"][0]["extra"] = 1
    with pytest.raises(msgspec.ValidationError, match="extra"):
        decode_plan(msgspec.json.encode(document))


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format])
@pytest.mark.parametrize(
    "holder",
    [
        group_plan(),
        (group_plan(accepted_keys=(KEY, bytes(20))),),
        node_plan(group_plan(), group_plan(name="db")),
        StartGroup(group=group_plan(), resume=True),
    ],
)
def test_no_text_of_a_plan_shows_the_key(show: Callable[[object], str], holder: object) -> None:
    text = show(holder)
    assert "web" in text
    assert "correct" not in text
    assert "key" not in text
    for form in (KEY.hex(), msgspec.json.encode(KEY).decode().strip('"')):
        assert form not in text
