from __future__ import annotations

import pytest

from sidecar.config.layers import Layer, Problems, Setting, State, check, nearest, overlay, values_of
from sidecar.config.model import GroupKeys


def label(field: str) -> str:
    return f"<{field}>"


def read(given: dict[str, object]) -> tuple[Layer, tuple[str, ...]]:
    problems = Problems()
    return check(GroupKeys, given, labels=label, problems=problems), problems.lines


def test_right_wrong_and_empty_values_side_by_side() -> None:
    layer, lines = read({"vhid": "7", "advbase": "x", "advskew": "", "interface": None, "dead_ratio": "  "})
    assert {name: setting.state for name, setting in layer.items()} == {
        "vhid": State.GIVEN,
        "advbase": State.WRONG,
        "advskew": State.EMPTY,
        "interface": State.EMPTY,
        "dead_ratio": State.EMPTY,
    }
    assert values_of(layer) == {"vhid": 7}
    assert lines == ("<advbase>: 'x' is not a whole number; use whole seconds from 0 to 254",)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"vhid": ["1"]}, "<vhid>: is a list where one value belongs; "),
        ({"vips": {"a": "b"}}, "<vips>: is a mapping where one value belongs; "),
        ({"vips": [None]}, "<vips>: holds something else than text; "),
        ({"interface": "\udc80"}, "<interface>: is not UTF-8 text; "),
        ({"preempt": "maybe"}, "<preempt>: 'maybe' is neither true nor false; use true or false"),
        ({"vhid": "256"}, "<vhid>: 256 is out of range; "),
        ({"replay": "none"}, "<replay>: 'none' is not one of its values; "),
        ({"password": ["hunter2"]}, "<password>: is a list where one value belongs; "),
        ({"password": "x", "password_file": "/x"}, "<password>: <password_file> is set as well; keep one of the two"),
    ],
)
def test_one_line_for_each_mistake(given: dict[str, object], fault: str) -> None:
    layer, lines = read(given)
    assert len(lines) == 1
    assert lines[0].startswith(fault)
    assert State.WRONG in {setting.state for setting in layer.values()}


def test_every_wrong_vip_has_its_line() -> None:
    _, lines = read({"vips": "10.0.0.1,bad,worse"})
    assert [line.split(";")[0] for line in lines] == [
        "<vips>: 'bad' is not an address",
        "<vips>: 'worse' is not an address",
    ]


def test_white_space_belongs_to_a_password_and_to_nothing_else() -> None:
    layer, _ = read({"password": " x ", "interface": " eth0 "})
    assert layer["password"].value.get_secret_value() == " x "
    assert layer["interface"].value == "eth0"


def test_a_setting_shows_no_value() -> None:
    assert "hunter2" not in repr(Setting("CARP_PASSWORD", State.GIVEN, "hunter2"))


def test_the_stronger_layer_wins_and_an_empty_value_does_not_count() -> None:
    weak, _ = read({"vhid": "1", "advskew": "10"})
    strong, _ = read({"vhid": "2", "advskew": "", "interface": ""})
    merged = overlay([weak, strong])
    assert values_of(merged) == {"vhid": 2, "advskew": 10}
    assert merged["interface"].state is State.EMPTY


def test_a_wrong_value_hides_the_weaker_one() -> None:
    weak, _ = read({"vhid": "1"})
    strong, _ = read({"vhid": "x"})
    assert overlay([weak, strong])["vhid"].state is State.WRONG


@pytest.mark.parametrize(
    ("weak", "strong"), [({"password": "a"}, {"password_file": "/b"}), ({"password_file": "/b"}, {"password": "a"})]
)
def test_the_two_ways_to_give_a_password_are_one_setting(weak: dict[str, object], strong: dict[str, object]) -> None:
    assert overlay([read(weak)[0], read(strong)[0]]).keys() == strong.keys()


def test_an_empty_password_overrides_none() -> None:
    merged = overlay([read({"password_file": "/b"})[0], read({"password": ""})[0]])
    assert values_of(merged) == {"password_file": "/b"}


@pytest.mark.parametrize(
    ("unknown", "known", "remedy"),
    [
        ("vhdi", ["vhid", "vips"], "did you mean vhid?"),
        ("VHID", ["vhid", "vips"], "did you mean vhid?"),
        ("CARP_VHDI", ["CARP_VHID", "CARP_VIPS"], "did you mean CARP_VHID?"),
        ("CARP_QQQQ", ["CARP_VHID"], "remove it (the nearest known one is CARP_VHID)"),
        ("x", [], "remove it"),
        ("q", [""], "remove it"),
        ("web", ["", "web1"], "did you mean web1?"),
    ],
)
def test_the_nearest_known_name(unknown: str, known: list[str], remedy: str) -> None:
    assert nearest(unknown, known) == remedy


def test_problems_are_told_once_in_order() -> None:
    problems = Problems()
    problems.add("b", "x", "y")
    problems.add("a", "x", "y")
    problems.add("b", "x", "y")
    assert problems.lines == ("b: x; y", "a: x; y")
