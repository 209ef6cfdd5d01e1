"""The metrics as Prometheus reads them, and how many of them there can be."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from msgspec.structs import replace

from sidecar.agent.metrics import TABLE, Facts, render
from sidecar.agent.state import ApiState, MirrorStatus
from sidecar.ipc.messages import LeaseStatus, SettingsStatus
from sidecar.protocol.types import DropReason, Reason, Role
from tests.fakes.statuses import PEER, group_status, status_reply

LINE = re.compile(r'([a-z_]+)((?:\{[a-z]+="(?:[^"\\\n]|\\.)*"(?:,[a-z]+="(?:[^"\\\n]|\\.)*")*\})?) (\S+)')


def samples(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            assert match[1] + match[2] not in found
            found[match[1] + match[2]] = float(match[3])
    return found


MIRROR = MirrorStatus(
    requests=Counter({("patch", "pods", "200"): 3, ("list", "pods", ""): 1}),
    api=ApiState.THROTTLED,
    pending_since=1000.0,
    last_lag=0.25,
    missing_rights={"patch pods/status"},
    events_dropped=7,
)
WEB = 'group="web",vhid="42"'
REFUSED = SettingsStatus(generation=3, applied_at=1795408840.0, refused_since=1795408850.0, errors=("CARP_VHID: ...",))


def test_the_settings_in_force_and_those_that_are_refused() -> None:
    found = samples(render(Facts(status=replace(status_reply(group_status()), settings=REFUSED))))
    assert found["carp_config_generation"] == 3
    assert found["carp_config_applied_timestamp_seconds"] == 1795408840.0
    assert found["carp_config_refused"] == 1
    good = replace(REFUSED, refused_since=None, errors=())
    assert samples(render(Facts(status=replace(status_reply(), settings=good))))["carp_config_refused"] == 0
    assert "carp_config" not in render(Facts(status=status_reply()))


@pytest.mark.parametrize(
    ("series", "value"),
    [
        ("carp_engine_up", 1),
        (f'carp_role{{{WEB},role="master"}}', 1),
        (f'carp_role{{{WEB},role="backup"}}', 0),
        (f"carp_role_since_timestamp_seconds{{{WEB}}}", 1795408808.068),
        (f'carp_transitions_total{{{WEB},reason="master-down"}}', 1),
        (f'carp_transitions_total{{{WEB},reason="woke-late"}}', 0),
        (f"carp_master_known{{{WEB}}}", 1),
        (f"carp_rivals{{{WEB}}}", 0),
        (f"carp_adverts_sent_total{{{WEB}}}", 30),
        (f"carp_adverts_received_total{{{WEB}}}", 40),
        (f'carp_adverts_dropped_total{{{WEB},reason="bad-hmac"}}', 5),
        (f'carp_adverts_dropped_total{{{WEB},reason="replayed"}}', 0),
        (f"carp_send_errors_total{{{WEB}}}", 1),
        (f"carp_announcements_total{{{WEB}}}", 4),
        (f'carp_takeover{{{WEB},state="contested"}}', 1),
        (f'carp_takeover{{{WEB},state="confirmed"}}', 0),
        (f"carp_held_back{{{WEB}}}", 0),
        (f"carp_lease_remaining_seconds{{{WEB}}}", 1.5),
        (f"carp_demotion{{{WEB}}}", 240),
        (f'carp_demotion_weight{{{WEB},source="maintenance"}}', 240),
        (f"carp_disturbances_total{{{WEB}}}", 0),
        ("carp_label_lag_seconds", 2.5),
        ("carp_label_last_lag_seconds", 0.25),
        ('carp_api_requests_total{verb="patch",resource="pods",code="200"}', 3),
        ('carp_api_requests_total{verb="list",resource="pods",code="none"}', 1),
        ('carp_api_state{state="throttled"}', 1),
        ('carp_api_state{state="ok"}', 0),
        ("carp_missing_rights", 1),
        ("carp_events_dropped_total", 7),
        ('carp_interface_up{interface="eth0"}', 1),
        ('carp_packets_dropped_total{interface="eth0",reason="unknown-vhid"}', 7),
        ('carp_loop_lag_seconds_bucket{le="0.001"}', 8),
        ('carp_loop_lag_seconds_bucket{le="0.1"}', 9),
        ('carp_loop_lag_seconds_bucket{le="+Inf"}', 10),
        ("carp_loop_lag_seconds_sum", 0.75),
        ("carp_loop_lag_seconds_count", 10),
        ("carp_loop_lag_max_seconds", 0.5),
    ],
)
def test_what_the_status_says(series: str, value: float) -> None:
    assert samples(render(Facts(status=status_reply(), mirror=MIRROR, now=1002.5)))[series] == value


def test_where_nobody_was_asked_there_is_no_proof() -> None:
    assert "carp_takeover" not in render(Facts(status=status_reply(group_status(proof=None))))


def test_a_node_without_a_lease_has_no_remaining_one() -> None:
    for lease in (None, LeaseStatus(kind="address", why="", remaining_ms=None)):
        text = render(Facts(status=status_reply(group_status(lease=lease))))
        assert "carp_lease_remaining_seconds" not in text


def test_each_family_has_its_help_and_its_type_once_and_before_its_samples() -> None:
    status = replace(status_reply(group_status(), group_status(name="db", vhid=43)), settings=REFUSED)
    text = render(Facts(status=status, mirror=MIRROR))
    names: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP"):
            names.append(line.split()[2])
        elif line.startswith("# TYPE"):
            assert line.split()[2] == names[-1]
        else:
            assert re.sub(r"_(bucket|sum|count)$", "", line.split("{")[0].split()[0]) == names[-1]
    assert names == [metric.name for metric in TABLE]


def test_without_an_engine_only_what_does_not_come_from_it() -> None:
    found = samples(render(Facts(status=None)))
    assert {series.split("{")[0] for series in found} == {"carp_build_info", "carp_engine_up"}


def test_names_and_helps_are_by_the_book() -> None:
    for metric in TABLE:
        assert re.fullmatch(r"carp_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert metric.help[0].isupper() or metric.help[0].isdigit()
        assert metric.help.endswith(".")
        assert "\n" not in metric.help + metric.name


def test_what_strangers_send_makes_no_new_series() -> None:
    quiet = status_reply(group_status(peers=(), drops={}, rivals=()))
    strangers = tuple(PEER for _ in range(64))
    loud = status_reply(
        group_status(peers=strangers, drops={reason.value: 1 for reason in DropReason}, rivals=("10.0.0.66",))
    )
    assert samples(render(Facts(status=quiet))).keys() == samples(render(Facts(status=loud))).keys()


def test_a_group_costs_a_bounded_number_of_series() -> None:
    one = samples(render(Facts(status=status_reply(group_status()))))
    two = samples(render(Facts(status=status_reply(group_status(), group_status(name="db", vhid=43)))))
    assert len(two) - len(one) < len(Reason) + len(DropReason) + len(Role) + 20


def test_values_of_labels_are_escaped() -> None:
    found = render(Facts(status=status_reply(group_status(name='a"b\\c\nd'))))
    assert r'carp_rivals{group="a\"b\\c\nd",vhid="42"} 0' in found
