from typing import Any

import pytest

from sidecar.demo.patches import JSON_PATCH, MERGE, STRATEGIC, PatchError, apply

POD: dict[str, Any] = {
    "metadata": {"name": "a", "labels": {"app": "x", "old": "y"}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]},
}


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [  # from RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches(document: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]) -> None:
    assert apply(MERGE, document, patch) == expected


@pytest.mark.parametrize("kind", [MERGE, STRATEGIC])
def test_labels_are_merged_and_the_document_stays_as_it_was(kind: str) -> None:
    patched = apply(kind, POD, {"metadata": {"labels": {"carp-role": "master", "old": None}}})
    assert patched["metadata"] == {"name": "a", "labels": {"app": "x", "carp-role": "master"}}
    assert POD["metadata"]["labels"] == {"app": "x", "old": "y"}


def test_a_strategic_merge_joins_conditions_by_their_type() -> None:
    patch = {"status": {"conditions": [{"type": "carp", "status": "True"}, {"type": "Ready", "status": "False"}]}}
    conditions = apply(STRATEGIC, POD, patch)["status"]["conditions"]
    assert {condition["type"]: condition["status"] for condition in conditions} == {
        "Ready": "False",
        "Initialized": "True",
        "carp": "True",
    }
    assert apply(MERGE, POD, patch)["status"]["conditions"] == patch["status"]["conditions"]


def test_a_strategic_merge_refuses_conditions_without_a_type() -> None:
    with pytest.raises(PatchError, match="merge key 'type'"):
        apply(STRATEGIC, POD, {"status": {"conditions": [{"status": "True"}]}})


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [  # from RFC 6902, appendix A
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        ({"foo": ["a", "b"]}, [{"op": "add", "path": "/foo/1", "value": "q"}], {"foo": ["a", "q", "b"]}),
        ({"foo": ["a"]}, [{"op": "add", "path": "/foo/-", "value": ["b"]}], {"foo": ["a", ["b"]]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["a", "q", "b"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "b"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        ({"foo": ["a", 2]}, [{"op": "test", "path": "/foo/1", "value": 2}], {"foo": ["a", 2]}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"foo": 1}, [{"op": "replace", "path": "", "value": {"bar": 2}}], {"bar": 2}),
        ({"a/b": 1}, [{"op": "remove", "path": "/a~1b"}], {}),
        ({"foo": [1, 2]}, [{"op": "replace", "path": "/foo/0", "value": 3}], {"foo": [3, 2]}),
    ],
)
def test_json_patches(document: dict[str, Any], patch: list[Any], expected: dict[str, Any]) -> None:
    assert apply(JSON_PATCH, document, patch) == expected


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/metadata/labels/app", "value": "z"},
        {"op": "test", "path": "/metadata/labels/none", "value": None},
        {"op": "replace", "path": "/metadata/none", "value": 1},
        {"op": "remove", "path": "/metadata/none"},
        {"op": "remove", "path": ""},
        {"op": "add", "path": "/none/below", "value": 1},
        {"op": "add", "path": "/metadata/name/below", "value": 1},
        {"op": "add", "path": "metadata", "value": 1},
        {"op": "add", "path": "/metadata"},
        {"op": "test", "path": "/status/conditions/9", "value": 1},
        {"op": "test", "path": "/status/conditions/x", "value": 1},
        {"op": "move", "from": "/metadata", "path": "/x"},
        "nonsense",
    ],
)
def test_json_patches_that_do_not_apply(operation: object) -> None:
    with pytest.raises(PatchError):
        apply(JSON_PATCH, POD, [operation])


def test_a_json_patch_changes_nothing_in_place_even_where_it_fails_half_way() -> None:
    patch = [{"op": "replace", "path": "/metadata/name", "value": "b"}, {"op": "remove", "path": "/none"}]
    with pytest.raises(PatchError):
        apply(JSON_PATCH, POD, patch)
    assert POD["metadata"]["name"] == "a"


@pytest.mark.parametrize(("kind", "patch"), [(JSON_PATCH, {}), (MERGE, []), (STRATEGIC, "x"), (MERGE, None)])
def test_patches_of_the_wrong_shape(kind: str, patch: object) -> None:
    with pytest.raises(PatchError):
        apply(kind, POD, patch)
