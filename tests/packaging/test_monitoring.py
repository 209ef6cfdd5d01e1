"""What Prometheus and Grafana get: metrics, alert rules and dashboard, judged by promtool and by the metrics' table."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from sidecar.agent.metrics import TABLE, Facts, render
from sidecar.agent.state import MirrorStatus
from tests.fakes.statuses import status_reply
from tools import dashboard

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "charts/carp-sidecar/files/alerts.yaml"
ALERTS_TEST = Path(__file__).with_name("alerts_test.yaml")
SCRAPED = {"job", "namespace", "instance"}
"""Labels that Prometheus gives each series."""


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("NO promtool, so alerts and dashboard are not tested: as root on Debian, `make system-packages`")
    return found


def run(*command: str | Path, given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def alert_queries() -> dict[str, str]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def dashboard_queries() -> dict[str, str]:
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    return {f"{panel['title']} {each['refId']}": each["expr"] for panel in panels for each in panel["targets"]}


QUERIES = {**alert_queries(), **dashboard_queries()}


def test_promtool_finds_no_fault_with_the_metrics(promtool: str) -> None:
    assert (
        run(promtool, "check", "metrics", given=render(Facts(status=status_reply(), mirror=MirrorStatus(last_lag=1.0))))
        == ""
    )


def test_the_rules_are_rules(promtool: str) -> None:
    assert f"SUCCESS: {len(alert_queries())} rules found" in run(promtool, "check", "rules", ALERTS)


def test_each_alert_is_raised_when_it_should_and_not_by_an_ordinary_takeover(promtool: str) -> None:
    run(promtool, "test", "rules", ALERTS_TEST)


def test_each_alert_has_a_test_that_raises_it_and_one_that_does_not() -> None:
    tests = yaml.safe_load(ALERTS_TEST.read_text())["tests"]
    checks = [check for each in tests for check in each["alert_rule_test"]]
    for raised in (True, False):
        assert {each["alertname"] for each in checks if bool(each.get("exp_alerts")) is raised} == set(alert_queries())


def test_grafanas_queries_are_queries(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(dashboard_queries().values())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in run(promtool, "check", "rules", file)


def series_in(queries: Iterable[str]) -> set[str]:
    names = {name for query in queries for name in re.findall(r"\bcarp_[a-z_]+", query)}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def test_all_that_is_asked_for_exists() -> None:
    assert series_in(QUERIES.values()) <= {metric.name for metric in TABLE}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_a_query_uses_labels_that_its_metrics_have(query: str) -> None:
    known = SCRAPED | {label for metric in TABLE if metric.name in series_in([query]) for label in metric.labels}
    selected = {label for inside in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+)\s*[=!]", inside)}
    grouped = {
        label.strip() for inside in re.findall(r"\b(?:by|without|on) \(([^)]*)\)", query) for label in inside.split(",")
    }
    assert selected | grouped <= known


def test_the_series_of_the_alerts_tests_are_such_as_we_write() -> None:
    labels = {metric.name: set(metric.labels) for metric in TABLE}
    for each in yaml.safe_load(ALERTS_TEST.read_text())["tests"]:
        for given in each["input_series"]:
            name, inside = re.fullmatch(r"(\w+)\{(.*)\}", given["series"]).groups()  # type: ignore[union-attr]
            assert set(re.findall(r"(\w+)=", inside)) - SCRAPED == labels[re.sub("_bucket$", "", name)]


def test_the_dashboard_is_made_from_its_table() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "run `make docs`"


def test_panels_lie_side_by_side_and_not_over_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_metric_but_those_of_the_build_is_watched_by_somebody() -> None:
    unwatched = {metric.name for metric in TABLE} - series_in(QUERIES.values())
    assert unwatched == {
        "carp_api_state",
        "carp_build_info",
        "carp_config_applied_timestamp_seconds",
        "carp_config_generation",
        "carp_demotion",
        "carp_events_dropped_total",
        "carp_loop_lag_max_seconds",
        "carp_role_since_timestamp_seconds",
    }
