"""The status page as a file: complete in itself, its policy that of exactly this file; tests/browser looks at it."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from sidecar.agent.page import page, policy


def hashed(tag: str) -> str:
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page().decode(), re.S)
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def test_the_policy_lets_its_own_script_and_style_run_and_nothing_else() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in policy().split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": f"'sha256-{hashed('script')}'",
        "style-src": f"'sha256-{hashed('style')}'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = page().decode()
    assert set(re.findall(r"https?://[^'\"\s]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, in the icon
    assert "@import" not in text
    assert "url(" not in text


@pytest.mark.parametrize("way", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style="])
def test_nothing_becomes_markup_or_code(way: str) -> None:
    assert way not in page().decode()
