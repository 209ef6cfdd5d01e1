"""The conversations are as they were. ``pytest --rewrite-golden`` writes them anew; the difference is to be read."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.golden import scenarios
from tests.golden.conversation import Conversation

HERE = Path(__file__).parent
SCENARIOS: dict[str, Callable[[], Conversation]] = {
    name: scenario
    for name, scenario in inspect.getmembers(scenarios, inspect.isfunction)
    if scenario.__module__ == scenarios.__name__ and not name.startswith("_")
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_conversation(name: str, request: pytest.FixtureRequest) -> None:
    scenario = SCENARIOS[name]
    heading = "".join(f"# {line}".rstrip() + "\n" for line in (inspect.getdoc(scenario) or "").splitlines())
    told = f"{heading}\n{scenario().text()}"
    path = HERE / f"{name}.txt"
    if request.config.getoption("--rewrite-golden"):
        path.write_text(told)
    assert path.read_text().splitlines() == told.splitlines(), "read the difference, then `pytest --rewrite-golden`"


def test_every_text_has_its_scenario() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == SCENARIOS.keys() | {"refusals"}
