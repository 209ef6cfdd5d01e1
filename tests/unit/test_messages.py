"""Every message survives its bytes; whatever else the bytes are, it is a MessageError and nothing else."""

from __future__ import annotations

import builtins
import types
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.ipc.messages import MAXIMUM, VERSION, AnyMessage, Bound, Message, MessageError, Snapshot, decode, encode

KINDS: tuple[type[Message], ...] = typing.get_args(AnyMessage)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for a field's type, with the numbers that JSON can carry."""
    inner = [values_of(each) for each in typing.get_args(kind) if each is not Ellipsis]
    match typing.get_origin(kind) or kind:
        case types.UnionType:
            found = st.one_of(inner)
        case builtins.tuple if Ellipsis in typing.get_args(kind):
            found = st.lists(inner[0], max_size=3).map(tuple)
        case builtins.tuple:
            found = st.tuples(*inner)
        case builtins.dict:
            found = st.dictionaries(*inner, max_size=3)
        case builtins.float:
            found = st.floats(allow_nan=False, allow_infinity=False)
        case builtins.int:
            found = st.integers(-(2**63), 2**64 - 1)
        case struct if issubclass(struct, msgspec.Struct):
            found = st.builds(struct, **{field.name: values_of(field.type) for field in msgspec.structs.fields(struct)})
        case plain:
            found = st.from_type(plain)
    return found


def accepted(data: bytes) -> Message | None:
    """Return the message that the bytes are, or None where they are refused as they should be."""
    try:
        return decode(data)
    except MessageError:
        return None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_message_comes_back_as_it_was(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(values_of(kind))
    encoded = encode(message)
    assert encoded[0] == VERSION
    back = decode(encoded)
    assert type(back) is kind
    assert back == message


def test_the_tags_are_the_class_names_and_no_two_are_alike() -> None:
    tags = [kind.__struct_config__.tag for kind in KINDS]
    assert tags == [kind.__name__ for kind in KINDS]
    assert len(set(tags)) == len(KINDS) == 36


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    assert accepted(data) is None


@given(st.binary(max_size=200))
def test_arbitrary_bytes_after_the_version_are_refused(data: bytes) -> None:
    assert accepted(bytes((VERSION,)) + data) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    document=st.dictionaries(st.sampled_from(["group", "error", "token", "groups", "interface", "x"]), JSON),
    kind=st.sampled_from([*(kind.__name__ for kind in KINDS), "Message", "GroupStatus", ""]) | JSON,
)
def test_any_json_is_a_message_of_its_kind_or_refused(document: dict[str, object], kind: object) -> None:
    try:
        text = msgspec.json.encode({**document, "kind": kind})
    except OverflowError:
        return  # beyond 64 bits: not even JSON of ours
    message = accepted(bytes((VERSION,)) + text)
    assert message is None or type(message).__name__ == kind


@given(st.sampled_from(KINDS).flatmap(values_of), st.data())
def test_a_truncated_message_is_refused(message: Message, data: st.DataObject) -> None:
    encoded = encode(message)
    assert accepted(encoded[: data.draw(st.integers(0, len(encoded) - 1))]) is None


@given(st.sampled_from(KINDS).flatmap(values_of), st.integers(0, 255).filter(lambda v: v != VERSION))
def test_another_version_is_refused_by_its_number(message: Message, version: int) -> None:
    with pytest.raises(MessageError, match=f"^message version {version}, this side speaks {VERSION}$"):
        decode(bytes((version,)) + encode(message)[1:])


@given(st.sampled_from(KINDS).flatmap(values_of), st.data())
def test_a_message_with_wrong_bytes_is_refused_or_another_message(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(encode(message))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    other = accepted(bytes(encoded))
    assert other is None or isinstance(other, KINDS)


@pytest.mark.parametrize(
    "document",
    [
        b'{"kind":"Bound","group":"web"}',  # a field is missing
        b'{"kind":"Bound","group":"web","error":null,"x":1}',  # one too many
        b'{"kind":"Bound","group":1,"error":null}',  # of another type
        b'{"kind":"Nothing"}',
        b'{"group":"web","error":null}',
        b'{"kind":"Bound","group":"web","error":null}{}',
        b'{"kind":"Bound","group":"\xff","error":null}',
        b'{"kind":"Snapshot","groups":' + b"[" * 100_000,
        b"[]",
        b"",
    ],
    ids=["missing", "unknown", "type", "kind", "no-kind", "trailing", "not-utf-8", "deep", "list", "empty"],
)
def test_what_is_nearly_a_message_is_refused(document: bytes) -> None:
    assert accepted(bytes((VERSION,)) + document) is None


def test_nothing_is_no_message() -> None:
    with pytest.raises(MessageError, match=r"^a message of 0 bytes$"):
        decode(b"")


def test_a_message_is_at_most_as_long_as_the_maximum() -> None:
    empty = len(encode(Bound(group="web", error="")))
    longest = Bound(group="web", error="x" * (MAXIMUM - empty))
    assert len(encode(longest)) == MAXIMUM
    assert decode(encode(longest)) == longest
    with pytest.raises(MessageError, match=f"^Bound takes {MAXIMUM + 1} bytes, at most {MAXIMUM} are sent$"):
        encode(Bound(group="web", error="x" * (MAXIMUM - empty + 1)))
    with pytest.raises(MessageError, match=f"^a message of {MAXIMUM + 1} bytes$"):
        decode(encode(longest) + b" ")


def test_messages_are_values() -> None:
    message = Snapshot(groups=())
    with pytest.raises(AttributeError):
        message.groups = ()  # type: ignore[misc]
