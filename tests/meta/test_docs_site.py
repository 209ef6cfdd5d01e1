"""The documentation is a site that needs no other, and in which no link is dead."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Dockerfile", "charts", "manifests", "tools")
"""What is linked besides docs/, and the hook."""


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", root / "mkdocs.yml"]
    return subprocess.run([*command, "--site-dir", site], check=False, capture_output=True, text=True)


def test_it_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    for page in (ROOT / "docs").rglob("*.md"):
        assert tmp_path / page.relative_to(ROOT / "docs").with_suffix(".html") in pages
    loaded = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(\w+:|//)")
    for page in pages:
        assert not loaded.search(page.read_text()), page
        shown = re.sub(r"<(code|script)\b.*?</\1>", "", page.read_text(), flags=re.S)
        assert not re.search(r"```|^ *\|[ -]|<p>[^<]*\n- ", shown, re.M), (
            f"{page}: Markdown that MkDocs does not read as GitHub does"
        )
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)[\s\"']*(?:https?:)?//", style.read_text()), style


def test_a_dead_link_a_dead_anchor_and_a_lost_page_end_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in (*PARTS, "mkdocs.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    dead = ("no-such-page.md", "upgrade.md#no-such-title", "../charts/no-such-file")
    with (tmp_path / "docs/install.md").open("a") as page:
        page.writelines(f"\n[away]({link})\n" for link in dead)
    (tmp_path / "docs/lost.md").write_text("# In no menu\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    for complaint in ("no-such-page.md", "no-such-title", "no-such-file", "lost.md"):
        assert complaint in done.stderr
    assert "Aborted with 4 warnings" in done.stdout + done.stderr
