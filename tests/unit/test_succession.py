"""Who comes after a master that was told to stop."""

from __future__ import annotations

import logging
import math
from ipaddress import IPv4Address

import pytest

from sidecar.engine.succession import Succession

PEER = IPv4Address("10.0.0.12")


def test_each_group_has_a_successor_or_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    succession = Succession()
    assert succession.deadline == math.inf
    succession.heard("web", PEER)  # nobody has left
    succession.await_one("web", until=5.0)
    succession.await_one("db", until=4.0)
    assert succession.deadline == 4.0
    succession.expire(3.9)
    succession.heard("web", PEER)
    succession.heard("web", PEER)
    assert succession.deadline == 4.0
    succession.expire(4.0)
    assert succession.deadline == math.inf
    told = [(record.levelname, record.message, record.__dict__["group"]) for record in caplog.records]
    assert told == [("INFO", "10.0.0.12 is master now", "web"), ("WARNING", "nobody has taken over", "db")]
