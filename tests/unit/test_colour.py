from __future__ import annotations

import pytest

from sidecar.observe.colour import coloured, palette, plain


@pytest.mark.parametrize(
    ("terminal", "environment", "wanted"),
    [
        (True, {}, coloured),
        (True, {"NO_COLOR": ""}, coloured),
        (True, {"NO_COLOR": "1"}, plain),
        (True, {"TERM": "dumb"}, plain),
        (True, {"TERM": "xterm"}, coloured),
        (False, {"TERM": "xterm"}, plain),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    *, terminal: bool, environment: dict[str, str], wanted: object
) -> None:
    assert palette(terminal=terminal, environment=environment) is wanted


def test_only_what_has_a_colour_gets_one() -> None:
    assert coloured("MASTER", "master") == "\x1b[1;32mMASTER\x1b[0m"
    assert coloured("x", "nothing") == "x"
    assert plain("MASTER", "master") == "MASTER"
