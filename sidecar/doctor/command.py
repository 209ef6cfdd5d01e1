"""The command: collects the facts, has them judged, prints a line for each finding."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from sidecar.config.model import SettingsError
from sidecar.config.settings import Loaded
from sidecar.control import ControlError, ask_status
from sidecar.doctor import host, rights, wire
from sidecar.doctor.checks import Finding, Verdict, judge, settings_findings, worst
from sidecar.doctor.facts import Facts

EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.WARN: 4}


def run(load: Callable[[], Loaded], *, seconds: float | None, as_json: bool, out: TextIO) -> int:
    """Examine this node and print the findings; return the exit code: 0 all well, 4 a warning, 1 a failure."""
    try:
        loaded = load()
    except SettingsError as error:
        facts, settings = Facts(host=host.read()), settings_findings(error.lines, ())
    else:
        facts, settings = examine(loaded, seconds=seconds), settings_findings((), loaded.warnings)
    findings = (*settings, *judge(facts))
    out.write(to_json(findings) if as_json else to_text(findings))
    return EXIT_CODES[worst(findings)]


def examine(loaded: Loaded, *, seconds: float | None) -> Facts:
    """Collect the facts; the kernel's answer on lifetimes and the LAN's take their time together."""
    plan = loaded.plan
    listen = wire.long_enough(plan.groups) if seconds is None else seconds
    with ThreadPoolExecutor(max_workers=1) as pool:
        machine = pool.submit(host.read)
        roles = _roles(Path(plan.runtime_dir))
        try:
            told, fault = wire.ask(plan.groups, seconds=listen), None
        except OSError as error:
            told, fault = wire.Told((), {}), f"the LAN cannot be listened to: {error.strerror or error}"
        return Facts(
            host=machine.result(),
            groups=plan.groups,
            nics=host.nics(plan.groups),
            heard=told.heard,
            seconds=listen,
            wire=fault,
            owners=told.owners,
            leftovers=host.virtual_macs(plan.groups),
            roles=roles,
            rights=None
            if plan.kubernetes is None
            else rights.ask(plan.kubernetes, plan.groups, plan.health, node=plan.node_name),
        )


def _roles(directory: Path) -> dict[str, str] | None:
    try:
        return {group.name: group.role for group in ask_status(directory).groups}
    except ControlError:
        return None


def to_text(findings: tuple[Finding, ...]) -> str:
    """Return one line per finding."""
    width = max(len(finding.check) for finding in findings)
    lines = [
        f"{finding.verdict.value.upper()}  {finding.check.ljust(width)}  {finding.text}"
        + (f"; {finding.remedy}" if finding.remedy else "")
        for finding in findings
    ]
    return "".join(f"{line}\n" for line in lines)


def to_json(findings: tuple[Finding, ...]) -> str:
    """Return one object: the verdict over all and the findings."""
    listed = [
        {"check": each.check, "verdict": each.verdict.value, "text": each.text, "remedy": each.remedy or None}
        for each in findings
    ]
    return json.dumps({"verdict": worst(findings).value, "findings": listed}, indent=2) + "\n"
