"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sidecar import usage
from sidecar.agent import metrics
from sidecar.config.model import GlobalKeys, GroupKeys
from sidecar.config.reference import markdown
from sidecar.doctor.rights import NEEDED
from sidecar.protocol.types import Reason
from tools import values_schema
from tools.diagram import PAGE, drawn

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "charts/carp-sidecar/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def test_the_settings_page_is_made_from_the_model() -> None:
    assert (ROOT / "docs/settings.md").read_text() == markdown(), "run `make docs`"


def test_the_charts_schema_is_made_from_the_model() -> None:
    assert values_schema.SCHEMA.read_text() == values_schema.text(), "run `make docs`"


def test_the_chart_knows_every_setting_of_the_file() -> None:
    keys = values_schema.values()["properties"]["config"]["properties"].keys()
    file = GroupKeys.model_fields.keys() | GlobalKeys.model_fields.keys() | {"groups", "nodes"}
    assert keys == file - values_schema.KEPT_OUT


def test_the_metrics_page_is_made_from_the_table() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == metrics.markdown(), "run `make docs`"


def test_the_doctor_asks_for_the_rights_of_the_charts_roles() -> None:
    files = ROOT / "charts/carp-sidecar/files"
    features = yaml.safe_load((files / "role-rules.yaml").read_text())
    features |= yaml.safe_load((files / "default-role-rules.yaml").read_text())
    features |= yaml.safe_load((files / "cluster-role-rules.yaml").read_text())
    granted = {
        feature: {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
        for feature, rules in features.items()
    }
    assert {feature: set(rights) for feature, rights in NEEDED.items()} == granted


def test_the_diagram_is_drawn_from_the_table() -> None:
    page = PAGE.read_text()
    assert page == drawn(page), "run `make docs`"


def test_every_reason_is_explained() -> None:
    explained = re.findall(r"`([a-z-]+)`", "\n".join(re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.M)))
    assert sorted(explained) == sorted(reason.value for reason in Reason)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_readme_names_every_make_target_and_command_that_it_uses() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"^make ([a-z-]+)$", readme, re.M)) == {"demo", "test"} <= targets


def test_the_commands_page_is_made_from_the_table() -> None:
    assert (ROOT / "docs/commands.md").read_text() == usage.markdown(), "run `make docs`"


def test_every_variable_in_the_readme_is_a_setting() -> None:
    known = set(re.findall(r"`([A-Z_]+)`", markdown()))
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            used = set(re.findall(r"\bCARP_[A-Z_]+\b", page.read_text()))
            assert used <= known, page
