"""Points in time as people read them."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.observe.moment import rfc3339


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1795408808.068, "2026-11-23T04:40:08.068Z"),
        (951782400, "2000-02-29T00:00:00.000Z"),
        (1.5, "1970-01-01T00:00:01.500Z"),
    ],
)
def test_utc_to_the_millisecond(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text


@given(st.floats(0, 4e9))
def test_it_reads_back_and_sorts_as_text(seconds: float) -> None:
    text = rfc3339(seconds)
    assert len(text) == len("2026-11-23T04:40:08.068Z")
    assert abs(datetime.fromisoformat(text).timestamp() - seconds) <= 0.0011
    assert rfc3339(seconds + 0.002) > text
