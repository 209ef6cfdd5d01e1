"""What the fuzzer runs for hours, run here for a moment: its seeds, its finds, and both with some bytes changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import SEEDS, words
from tests.fuzz.targets import TARGETS

KEPT = Path(__file__).parent / "kept"
"""What broke a target once, in a folder of the target's name."""
FINDS = {name: [path.read_bytes() for path in sorted((KEPT / name).glob("*"))] for name in TARGETS}
STARTS = {name: [*SEEDS[name](), *FINDS[name]] for name in TARGETS}

pieces = st.binary(max_size=12) | st.sampled_from([word.encode() for word in words()])
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), pieces), max_size=6)


def edited(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Put each piece at its place, counted as a share of the whole, instead of as many bytes."""
    for share, length, piece in changes:
        at = int(share * len(data))
        data = data[:at] + piece + data[at + length :]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_and_all_that_was_found(name: str) -> None:
    assert STARTS[name]
    for data in STARTS[name]:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150)
@given(data=st.data())
def test_anything_near_the_seeds(name: str, data: st.DataObject) -> None:
    start = data.draw(st.sampled_from(STARTS[name]))
    TARGETS[name](edited(start, data.draw(edits)))


def test_every_target_has_seeds_and_no_find_is_without_a_target() -> None:
    assert SEEDS.keys() == TARGETS.keys()
    assert {path.name for path in KEPT.glob("*")} <= TARGETS.keys()
