"""YAML to plain data: mappings, lists, text and None, nothing else. Pure.

Every scalar is text, exactly as written: the environment and the file go through the same readers of values, and a
password of digits keeps its leading zeros. Only an unquoted null, ~ or nothing is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from sidecar.config.values import show

if TYPE_CHECKING:
    Data = dict[str, "Data"] | list["Data"] | str | None

BYTES_AT_MOST = 1024 * 1024

_NODES_AT_MOST = 20_000
_DEPTH_AT_MOST = 16
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str"))


class DocumentError(Exception):
    """Text that is no settings file. The message is the fault and the remedy; it quotes keys, never values."""


def parse(data: bytes) -> Data:
    """Read one YAML document. Raises DocumentError."""
    if len(data) > BYTES_AT_MOST:
        raise DocumentError(
            f"the file is larger than {BYTES_AT_MOST // 1024} KiB; keep only this sidecar's settings in it"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fault = f"line {line} is not UTF-8; save the file as UTF-8"
    else:
        return _plain(_compose(text))
    raise DocumentError(fault)


def _compose(text: str) -> yaml.Node | None:
    # Each fault is raised outside its handler: the parser's own exceptions quote the file and must not be chained.
    try:
        return yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        fault = _syntax(error, text)
    except yaml.reader.ReaderError as error:
        fault = f"line {text.count(chr(10), 0, error.position) + 1} holds a control character; remove it"
    except RecursionError:
        fault = "the file is nested too deeply; keep to the keys of the reference"
    except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF"
        fault = "a quoted text has an escape that is no character; write the character itself"
    raise DocumentError(fault)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return "the file is not valid YAML; correct it"
    problem = error.problem or ""
    if not problem.startswith("could not find expected ':'"):
        # Whatever follows the first quote comes from the file and may be a secret.
        problem = problem.partition("'")[0].partition('"')[0].strip()
    problem = problem.removeprefix("but ").removesuffix(", but found")
    if text[mark.index : mark.index + 1] == "\t":
        problem = "a tab where YAML takes spaces only"
    where = f"line {mark.line + 1}, column {mark.column + 1}"
    hint = f" ({problem})" if len(problem.split()) > 2 else ""
    return f"the file is not valid YAML at {where}{hint}; correct that line or the one before it"


class _Budget:
    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _NODES_AT_MOST


def _plain(root: yaml.Node | None) -> Data:
    return None if root is None else _convert(root, depth=0, budget=_Budget())


def _convert(node: yaml.Node, *, depth: int, budget: _Budget) -> Data:
    budget.left -= 1
    if budget.left < 0 or depth > _DEPTH_AT_MOST:
        raise DocumentError(
            f"the file unfolds to over {_NODES_AT_MOST} values or {_DEPTH_AT_MOST} levels; use less, and fewer aliases"
        )
    if node.tag not in _TAGS:
        raise DocumentError(f"line {node.start_mark.line + 1} has a type tag (!...); remove it")
    match node:
        case yaml.ScalarNode():
            return None if node.style is None and node.value in _NULLS else str(node.value)
        case yaml.SequenceNode():
            return [_convert(item, depth=depth + 1, budget=budget) for item in node.value]
        case _:
            return _mapping(node, depth=depth, budget=budget)


def _mapping(node: yaml.Node, *, depth: int, budget: _Budget) -> Data:
    result: dict[str, Data] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise DocumentError(f"line {line} has a list or mapping as a key; use a plain word")
        if key.value in result:
            raise DocumentError(f"line {line} has the key {show(key.value)} for the second time; keep one of the two")
        result[key.value] = _convert(value, depth=depth + 1, budget=budget)
    return result
