"""What the doctor prints and how it ends."""

from __future__ import annotations

import io
import json

import pytest

from sidecar.config.model import SettingsError
from sidecar.config.settings import Loaded
from sidecar.doctor import command
from sidecar.doctor.checks import Finding, Verdict
from sidecar.doctor.command import EXIT_CODES, to_json, to_text
from sidecar.doctor.facts import Host
from tests.unit.test_doctor_checks import WELL

FINDINGS = (
    Finding("settings", Verdict.PASS, "valid"),
    Finding("web: vhid", Verdict.FAIL, "taken", "take another"),
)


def test_one_line_per_check_with_its_remedy() -> None:
    assert to_text(FINDINGS) == "PASS  settings   valid\nFAIL  web: vhid  taken; take another\n"


def test_json_has_the_same_and_the_verdict_over_all() -> None:
    assert json.loads(to_json(FINDINGS)) == {
        "verdict": "fail",
        "findings": [
            {"check": "settings", "verdict": "pass", "text": "valid", "remedy": None},
            {"check": "web: vhid", "verdict": "fail", "text": "taken", "remedy": "take another"},
        ],
    }


def test_each_verdict_has_an_exit_code_of_its_own() -> None:
    assert EXIT_CODES == {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.WARN: 4}


def test_bad_settings_are_told_and_the_machine_is_looked_at_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Loaded:
        raise SettingsError(["CARP_VHID: not set; use a whole number"])

    def read() -> Host:
        return WELL

    monkeypatch.setattr(command.host, "read", read)
    out = io.StringIO()
    assert command.run(load, seconds=None, as_json=False, out=out) == 1
    assert "FAIL  settings          CARP_VHID: not set; use a whole number\n" in out.getvalue()
    assert "PASS  privileges" in out.getvalue()
