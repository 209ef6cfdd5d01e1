"""Runs side by side wait for each other, and not for one that has failed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from bench.failover.together import Together


def test_all_come_to_a_place_before_one_goes_on_and_nobody_waits_for_who_is_over() -> None:
    together, lock = Together(4), Lock()
    said: list[str] = []

    def run(number: int) -> None:
        try:
            for place in "abc":
                with lock:
                    said.append(place)
                if number == 3 and place == "b":
                    return
                together.wait()
        finally:
            together.over()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4), timeout=30))
    assert "".join(said) == "aaaabbbbccc"
    Together(1).wait()
