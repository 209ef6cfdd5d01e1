"""Change protocol/ in every small way that mutmut knows, and see that some test fails each time: ``make mutants``.

mutmut leaves decorated functions alone, and much of the protocol is in properties; so in the copy they are methods that
a property calls. Constants outside functions are left alone too: the golden conversations and ``spec/`` hold them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

from tests.mutation.survivors import EXPLAINED, Survivor
from tests.mutation.tree import PROTOCOL, ROOT, copy_to

FOLDER = ROOT / "build" / "mutants"
UNITS = (
    "auth",
    "demotion",
    "ears",
    "election",
    "lease",
    "machine",
    "mastership",
    "packet",
    "peers",
    "receive",
    "seal",
    "timing",
    "transitions",
)
TESTS = [
    *(f"tests/unit/test_{unit}.py" for unit in UNITS),
    "tests/spec",
    "tests/golden",
    *(f"tests/property/test_{name}.py" for name in ("announcements", "election", "clocks", "interrupted")),
]
SETTINGS = f"""
[tool.mutmut]
source_paths = ["{PROTOCOL}"]
also_copy = ["sidecar", "docs", "tools", "Makefile", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
pytest_add_cli_args_test_selection = {TESTS}
pytest_add_cli_args = ["-p", "no:cacheprovider"]
timeout_multiplier = 3.0
timeout_constant = 20.0
"""
PROPERTY = re.compile(r"    @property\n    def (\w+)\(self\)")


def main(arguments: list[str]) -> int:
    """Run mutmut on a copy of the tree, or on the names in ``arguments``; return 1 if a mutant survives unexplained."""
    copy_to(FOLDER)
    for path in sorted((FOLDER / PROTOCOL).glob("*.py")):
        path.write_text(
            PROPERTY.sub(r"    \1 = property(lambda self: self.\1_())\n\n    def \1_(self)", path.read_text())
        )
    with (FOLDER / "pyproject.toml").open("a") as file:
        file.write(SETTINGS)
    environment = os.environ | {"HYPOTHESIS_PROFILE": "mutants"}
    mutmut = [sys.executable, "-m", "mutmut"]
    jobs = os.environ.get("MUTANTS_JOBS", "1")
    done = subprocess.run(
        [*mutmut, "run", "--max-children", jobs, *arguments], cwd=FOLDER, env=environment, check=False
    )
    if done.returncode:
        return done.returncode
    return _judge(list(_survivors(mutmut)))


def _survivors(mutmut: list[str]) -> Iterator[Survivor]:
    listed = subprocess.run([*mutmut, "results"], cwd=FOLDER, check=True, capture_output=True, text=True).stdout
    for name, state in re.findall(r"^\s*(\S+): (.*)$", listed, re.M):
        if state not in {"killed", "timeout", "not checked"}:
            shown = subprocess.run([*mutmut, "show", name], cwd=FOLDER, check=True, capture_output=True, text=True)
            yield _survivor(name, shown.stdout)


def _survivor(name: str, diff: str) -> Survivor:
    changed = [line for line in diff.splitlines() if re.match(r"[-+](?![-+])", line)]
    old, new = (" ".join(line[1:].strip() for line in changed if line[0] == sign) for sign in "-+")
    where = re.sub(r"__mutmut_\d+$", "", name).removeprefix("sidecar.protocol.").replace("x_", "").replace("xǁ", "")
    return Survivor(where.replace("ǁ", ".").rstrip("_"), old, new)


def _judge(survivors: list[Survivor]) -> int:
    unexplained = [each for each in survivors if each not in EXPLAINED]
    for each in unexplained:
        print(f"SURVIVED {each.where}\n  - {each.old}\n  + {each.new}")
    print(f"{len(survivors)} mutants survived, {len(survivors) - len(unexplained)} of them explained")
    for each in EXPLAINED.keys() - set(survivors):
        print(f"explained, but does not survive any more: {each}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
