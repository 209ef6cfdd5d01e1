"""The planted bugs can be planted. Whether they are found takes minutes: ``make mutants``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mutation.planted import BUGS, Bug
from tests.mutation.tree import PROTOCOL, ROOT, replace_once


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_has_its_place_and_is_still_python(bug: Bug, tmp_path: Path) -> None:
    copy = tmp_path / bug.file
    copy.write_text((ROOT / PROTOCOL / bug.file).read_text())
    replace_once(copy, bug.old, bug.new)
    compile(copy.read_text(), bug.file, "exec")
    everything = "".join(path.read_text() for path in (ROOT / PROTOCOL).glob("*.py"))
    for name in re.findall(r"self\.(\w+)", bug.new):
        assert re.search(rf"def {name}\b|self\.{name} |self\.{name}:", everything), (
            f"{name} is nothing: a crash is no bug"
        )
