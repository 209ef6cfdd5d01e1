"""The page and the picture: each aim with what was measured, and where a peer is ahead, said plainly."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from bench.failover.aims import ahead, aims, ratio, seconds
from bench.failover.cells import Cells
from bench.failover.page import page
from bench.failover.picture import picture
from bench.failover.setups import Fault, Product, setups
from bench.failover.store import Book
from bench.machine import machine
from tests.unit.test_bench_failover_store import FASTEST, cost, outcome

DEAD = (Fault.CRASH, Fault.FREEZE)


def book(*, ours: float = 0.05, theirs: float = 1.0, two: float = 0.0) -> Book:
    """All cells: our outages and our time with two answerers; theirs, who leave the VIP behind."""
    made = Book(machine=machine(), fastest=FASTEST)
    for setup in setups(FASTEST):
        for fault in Fault:
            for version in setup.versions:
                if setup.product is Product.OURS:
                    made.outcomes.append(outcome(setup, fault, version=version, outage=ours, two=two))
                else:
                    stays = fault in DEAD
                    out, both = (0.0, 3.0) if stays else (theirs, 0.0)
                    made.outcomes.append(outcome(setup, fault, version=version, outage=out, two=both))
        made.costs.append(cost(setup))
    return made


def verdicts(made: Book) -> dict[str, bool | None]:
    return {each.aim: each.reached for each in aims(Cells(made))}


def test_times_are_written_as_people_read_them() -> None:
    assert [seconds(each) for each in (0.0, 0.0004, 0.0016, 0.0854, 0.9994, 3.609)] == [
        "0", "0", "2 ms", "85 ms", "999 ms", "3.61 s",
    ]  # fmt: skip


def test_a_ratio_says_in_whose_favour_it_is() -> None:
    assert ratio(1.0, 2.5) == "2.5 times shorter"
    assert ratio(2.5, 1.0) == "2.5 times longer"
    assert ratio(0.0, 1.0) == "nothing against something"


def test_every_aim_is_judged() -> None:
    assert set(verdicts(book(ours=0.01)).values()) == {True, None}  # None: only one of them has a fastest of each MAC
    assert set(verdicts(Book()).values()) == {None}


def test_an_aim_that_is_missed_says_so() -> None:
    missed = {aim for aim, reached in verdicts(book(ours=2.0, two=0.2)).items() if reached is False}
    for part in ("the whole sidecar killed", "advskew 4", "planned stop: an outage", "crash: no time with two"):
        assert any(part in aim for aim in missed), part


def test_two_answerers_count_against_us_in_any_cell() -> None:
    made = book()
    ours, *_ = setups(FASTEST)
    made.outcomes.append(outcome(ours, Fault.STOP, version=6, two=0.005))
    assert verdicts(made)["planned stop: no time with two answerers at default timing"] is False
    assert verdicts(made)["crash: no time with two answerers at default timing"] is True


def test_where_a_peer_is_ahead_is_said_and_at_what_price() -> None:
    said = ahead(Cells(book()))
    assert any(
        "**crash**, default timing" in line and "At that price: two nodes answered for 3.00 s" in line for line in said
    )
    assert not any("planned stop" in line for line in said)
    assert any("planned stop" in line for line in ahead(Cells(book(ours=2.0))))


def test_the_page_has_all_cells_and_a_dash_where_ucarp_has_none() -> None:
    text = page(book())
    for fault in Fault:
        assert f"### {fault.capitalize()}\n" in text
    assert "| carp-sidecar, virtual MAC, IPv6 " in text
    [row, *_] = [line for line in text.splitlines() if line.startswith("| ucarp, interface MAC, IPv6")]
    assert {each.strip() for each in row.split("|")[2:-1]} == {"-"}
    assert "Measured from 1970-01-01 00:00" in text
    assert max(map(len, text.partition("## The settings")[2].partition("\n")[0].splitlines()), default=0) <= 120


def test_an_outage_that_lasted_to_the_end_is_said_to_be_longer() -> None:
    assert "over 6.00 s" in page(book(theirs=6.0))


@pytest.mark.parametrize("made", [book(), Book()], ids=["measured", "nothing measured"])
def test_the_picture_is_svg_for_light_and_dark_and_tells_all_faults(made: Book) -> None:
    drawn = picture(made)
    root = ET.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in drawn
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    if made.outcomes:
        assert {fault.capitalize() for fault in Fault} <= words
        assert "3.00 s" in words
        left, top, width, height = map(float, root.attrib["viewBox"].split())
        for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
            assert left <= float(bar.get("x", 0)) <= float(bar.get("x", 0)) + float(bar.attrib["width"]) <= width
            assert top <= float(bar.get("y", 0)) <= height
