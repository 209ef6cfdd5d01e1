"""The stations of a test: groups at work, each on a wire of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.fakes.station import StartStation, Station


@pytest.fixture
def station() -> Iterator[StartStation]:
    """Start a group with some settings of its plan changed."""
    with ExitStack() as stack:

        def start(**plan: Any) -> Station:
            return stack.enter_context(Station(**plan))

        yield start
