import re

import pytest

from sidecar.demo.answers import Answer, Answers, Outage
from sidecar.demo.timeline import Mark, Style, Timeline

PLAIN = Style(unicode=False, colour=False)
NODES = ("node-1", "node-2")
MARGIN = len("no answer  ")


def answers(*runs: tuple[str, float, float]) -> Answers:
    """Answers each 10 ms from one time to another, by node."""
    received = [
        Answer(start + index * 0.01, 0, node)
        for node, start, end in runs
        for index in range(round((end - start) / 0.01))
    ]
    return Answers(interval=0.01, sent=(0.0,), received=tuple(received), taken_at=10.0)


def drawn(
    seen: Answers,
    *,
    outages: tuple[Outage, ...] = (),
    marks: tuple[Mark, ...] = (),
    style: Style = PLAIN,
    since: float = 0.0,
    origin: float = 0.0,
    width: int = MARGIN + 40,
) -> list[str]:
    timeline = Timeline(since=since, until=since + 4.0, origin=origin, width=width, style=style, nodes=NODES)
    return timeline.render(seen, outages=outages, marks=marks).splitlines()


def test_each_node_has_a_row_of_when_it_answered() -> None:
    lines = drawn(answers(("node-1", 0.0, 1.95), ("node-2", 3.0, 3.99)))
    assert lines == [
        "node-1     ####################....................",
        "node-2     ..............................##########",
        "no answer",
        "           0 s       1 s       2 s       3 s",
    ]


def test_two_nodes_at_once_are_both_drawn() -> None:
    first, second = drawn(answers(("node-1", 0.0, 2.0), ("node-2", 1.0, 3.0)))[:2]
    assert first[MARGIN + 10 : MARGIN + 20] == second[MARGIN + 10 : MARGIN + 20] == "#" * 10


def test_an_outage_is_drawn_with_its_length() -> None:
    lines = drawn(answers(), outages=(Outage(1.0, 2.45, 9),))
    assert lines[2] == "no answer            xxxxxxxxxxxxxxx 1,450 ms"


def test_an_outage_shorter_than_a_cell_is_still_seen() -> None:
    assert drawn(answers(), outages=(Outage(1.01, 1.02, 1),))[2] == "no answer            x 10 ms"


def test_the_figure_of_an_outage_gives_way_to_the_next_one_and_to_the_edge() -> None:
    crowded = drawn(answers(), outages=(Outage(1.0, 1.35, 3), Outage(1.5, 1.95, 3), Outage(3.5, 3.99, 3)))[2]
    assert crowded == "no answer            xxxx xxxxx 450 ms        xxxxx"


def test_an_outage_outside_is_not_drawn_and_one_across_the_edge_is_cut() -> None:
    assert drawn(answers(), outages=(Outage(-3.0, -1.0, 3), Outage(5.0, 6.0, 3)))[2] == "no answer"
    assert drawn(answers(), outages=(Outage(-3.0, 0.15, 3),))[2] == "no answer  xx 3,150 ms"


def test_marks_point_at_their_time() -> None:
    lines = drawn(answers(), marks=(Mark(1.0, "SIGKILL"),))
    assert lines[0] == " " * MARGIN + " " * 10 + "SIGKILL"
    assert lines[1] == " " * MARGIN + " " * 10 + "v"


def test_marks_that_would_touch_go_on_lines_of_their_own() -> None:
    lines = drawn(answers(), marks=(Mark(1.0, "SIGKILL"), Mark(1.5, "start"), Mark(3.0, "SIGTERM")))
    assert lines[0] == " " * MARGIN + " " * 15 + "start"
    assert lines[1] == " " * MARGIN + " " * 10 + "SIGKILL" + " " * 13 + "SIGTERM"
    assert lines[2] == " " * MARGIN + " " * 10 + "v    v" + " " * 14 + "v"


def test_a_mark_near_the_end_is_moved_to_fit_and_one_outside_is_left_out() -> None:
    lines = drawn(answers(), marks=(Mark(3.9, "SIGTERM"), Mark(9.0, "never seen")))
    assert lines[0] == " " * MARGIN + " " * 33 + "SIGTERM"
    assert lines[1] == " " * MARGIN + " " * 39 + "v"
    assert not any("never" in line for line in lines)


def test_the_scale_counts_from_the_origin() -> None:
    assert drawn(answers(), since=10.0, origin=11.0)[-1] == " " * MARGIN + "-1 s      0 s       1 s       2 s"
    assert drawn(answers(), since=10.0, origin=10.5)[-1] == " " * (MARGIN + 5) + "0 s       1 s       2 s       3 s"


def test_a_short_time_gets_a_fine_scale() -> None:
    timeline = Timeline(since=0.0, until=1.0, origin=0.0, width=MARGIN + 40, style=PLAIN, nodes=NODES)
    assert timeline.render(answers(), outages=(), marks=()).splitlines()[-1].split("s")[:3] == [
        " " * MARGIN + "0 ",
        "     0.2 ",
        "   0.4 ",
    ]


@pytest.mark.parametrize("width", [1, 30, 60, 110])
def test_no_line_is_longer_than_the_width(width: int) -> None:
    lines = drawn(
        answers(("node-1", 0.0, 4.0)), outages=(Outage(0.0, 4.0, 9),), marks=(Mark(2.0, "x" * 15),), width=width
    )
    assert max(map(len, lines)) <= max(width, MARGIN + 10)


def test_a_mark_longer_than_the_line_is_cut() -> None:
    lines = drawn(answers(), marks=(Mark(2.0, "x" * 99),))
    assert lines[0] == " " * MARGIN + "x" * 40


def test_unicode_where_the_terminal_has_it() -> None:
    lines = drawn(
        answers(("node-1", 0.0, 1.95)),
        outages=(Outage(2.0, 2.45, 9),),
        marks=(Mark(0.0, "start"),),
        style=Style(unicode=True, colour=False),
    )
    assert lines[1].strip() == "▼"
    assert lines[2] == "node-1     " + "█" * 20 + "·" * 20
    assert "▒▒▒▒▒ 450 ms" in lines[4]


def test_colours_only_where_asked_for() -> None:
    seen = answers(("node-1", 0.0, 1.95))
    marks, outages = (Mark(0.0, "start"),), (Outage(2.0, 2.45, 9),)
    plain = drawn(seen, marks=marks, outages=outages)
    coloured = drawn(seen, marks=marks, outages=outages, style=Style(unicode=False, colour=True))
    assert not any("\033" in line for line in plain)
    assert all("\033[" in line for line in coloured if line.strip())
    assert [re.sub(r"\033\[[0-9;]*m", "", line).rstrip() for line in coloured] == plain
