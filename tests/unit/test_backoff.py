"""Waiting times: short while an API server is away, long where only a person can help, never none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.agent import backoff as module
from sidecar.agent.backoff import Backoff
from sidecar.agent.errors import ApiError

DOWN, REFUSED = ApiError("down"), ApiError("no", 403)
ERRORS = st.sampled_from([None, DOWN, REFUSED, ApiError("conflict", 409), ApiError("slow", 429, retry_after=7.0)])


def test_waiting_times_grow_to_their_bounds() -> None:
    backoff = Backoff(lambda: 1.0)
    seen = [backoff.after(DOWN) for _ in range(10)]
    assert seen[0] == module.FIRST_DELAY
    assert seen == sorted(seen)
    assert seen[-1] == module.LONGEST_DELAY
    delays = [backoff.after(REFUSED) for _ in range(module.PATIENT_REFUSALS + 5)]
    assert delays[: module.PATIENT_REFUSALS] == [module.LONGEST_DELAY] * module.PATIENT_REFUSALS
    assert delays[-1] == module.REFUSED_DELAY
    assert backoff.after(DOWN) == module.LONGEST_DELAY
    backoff.settle()
    assert backoff.after(None) == module.FIRST_DELAY


def test_half_of_a_waiting_time_is_random() -> None:
    assert Backoff(lambda: 0.0).after(DOWN) == module.FIRST_DELAY / 2


def test_a_retry_after_is_added_and_believed_up_to_a_bound() -> None:
    backoff = Backoff(lambda: 1.0)
    assert backoff.after(ApiError("", 429, retry_after=7.0)) == 7.0 + module.FIRST_DELAY
    assert backoff.after(ApiError("", 429, retry_after=1e9)) < module.LONGEST_RETRY_AFTER + 1


@given(st.lists(ERRORS, min_size=30, max_size=60), st.floats(0, 1))
def test_whatever_fails_it_is_no_busy_loop(errors: list[ApiError | None], jitter: float) -> None:
    backoff = Backoff(lambda: jitter)
    assert sum(map(backoff.after, errors)) > 0.4 * (len(errors) - 5)
