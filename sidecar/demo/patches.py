"""The three kinds of patch that clients send for pods. Pure: documents are JSON values, results are new ones.

RFC 7396 (merge), RFC 6902 (JSON patch), and of Kubernetes' strategic merge as much as a pod's conditions need.
"""

from __future__ import annotations

import copy
from typing import Any

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"

# Lists that a strategic merge joins by the value of a key; it replaces every other list.
_MERGE_KEYS = {"conditions": "type", "containers": "name"}


class PatchError(ValueError):
    """The patch is malformed or doesn't apply, which for a JSON patch includes a ``test`` that fails."""


def apply(kind: str, document: Any, patch: Any) -> Any:  # noqa: ANN401 -- any JSON value
    """Return ``document`` patched; ``kind`` is one of the content types above. Raises PatchError."""
    if kind == JSON_PATCH:
        if not isinstance(patch, list):
            raise PatchError("a JSON patch is a list of operations")
        document = copy.deepcopy(document)
        for operation in patch:
            document = _operate(document, operation)
        return document
    if not isinstance(patch, dict):
        raise PatchError("a merge patch for a pod is an object")
    return _merge(document, patch, strategic=kind == STRATEGIC)


def _merge(document: Any, patch: Any, *, strategic: bool, field: str = "") -> Any:  # noqa: ANN401
    if strategic and isinstance(patch, list) and isinstance(document, list) and field in _MERGE_KEYS:
        return _merge_lists(document, patch, key=_MERGE_KEYS[field])
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value, strategic=strategic, field=name)
    return merged


def _merge_lists(document: list[Any], patch: list[Any], *, key: str) -> list[Any]:
    if not all(isinstance(item, dict) and key in item for item in [*document, *patch]):
        raise PatchError(f"each item of the list needs its merge key {key!r}")
    merged = {item[key]: item for item in document}
    for item in patch:
        merged[item[key]] = _merge(merged.get(item[key]), item, strategic=True)
    return list(merged.values())


def _operate(document: Any, operation: Any) -> Any:  # noqa: ANN401
    match operation:
        case {"op": "test", "path": str(path), "value": value}:
            if _find(document, _tokens(path)) != value:
                raise PatchError(f"testing value {path} failed")
        case {"op": "add", "path": str(path), "value": value}:
            return _set(document, _tokens(path), value, insert=True)
        case {"op": "replace", "path": str(path), "value": value}:
            _find(document, _tokens(path))
            return _set(document, _tokens(path), value, insert=False)
        case {"op": "remove", "path": str(path)}:
            *parents, last = _tokens(path) or [""]
            _find(document, [*parents, last])
            parent = _find(document, parents)
            del parent[_index(parent, last)]
        case _:
            raise PatchError(f"operation not understood: {operation!r}")
    return document


def _tokens(pointer: str) -> list[str]:
    """Split a JSON pointer (RFC 6901)."""
    if pointer and not pointer.startswith("/"):
        raise PatchError(f"a JSON pointer starts with a slash: {pointer!r}")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _find(document: Any, tokens: list[str]) -> Any:  # noqa: ANN401
    for token in tokens:
        try:
            document = document[_index(document, token)]
        except (KeyError, IndexError, TypeError) as error:
            raise PatchError(f"there is no /{'/'.join(tokens)}") from error
    return document


def _set(document: Any, tokens: list[str], value: Any, *, insert: bool) -> Any:  # noqa: ANN401
    if not tokens:
        return value
    *parents, last = tokens
    parent = _find(document, parents)
    match parent:
        case dict():
            parent[last] = value
        case list() if insert:
            parent.insert(len(parent) if last == "-" else int(_index(parent, last)), value)
        case list():
            parent[_index(parent, last)] = value
        case _:
            raise PatchError(f"/{'/'.join(parents)} has no members")
    return document


def _index(parent: Any, token: str) -> Any:  # noqa: ANN401
    if not isinstance(parent, list):
        return token
    if not token.isdecimal():
        raise PatchError(f"{token!r} is no index of a list")
    return int(token)
