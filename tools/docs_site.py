"""What MkDocs needs to know beside mkdocs.yml: folders in the navigation, and what pages link to outside docs/.

README.md is the first page. Whatever else of the repository is linked is found below ``repository/``; a link to a
folder becomes plain text, since a site has none.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!#|[a-z]+:)([^)#\s]+)(#[^)]*)?\)")
_ELSEWHERE = "repository/"


def _root(config: MkDocsConfig) -> Path:
    return Path(config.docs_dir).parent


def _in_repository(uri: str) -> str:
    """Return the path in the repository of what has the path ``uri`` in the site's sources."""
    if uri == "index.md":
        return "README.md"
    return uri.removeprefix(_ELSEWHERE) if uri.startswith(_ELSEWHERE) else f"docs/{uri}"


def _in_site(path: str) -> str:
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else _ELSEWHERE + path


def _target(uri: str, link: str) -> str:
    """Return the path in the repository that a link on the page ``uri`` leads to."""
    return normpath(str(PurePosixPath(_in_repository(uri)).parent / link))


def _navigation(entries: list[Any], docs: Path) -> list[Any]:
    """Return the entries, with a folder's pages for the folder."""
    result: list[Any] = []
    for entry in entries:
        match entry:
            case {**one} if isinstance(value := next(iter(one.values())), str) and value.endswith("/"):
                pages = sorted(page.relative_to(docs).as_posix() for page in (docs / value).glob("*.md"))
                result.append({next(iter(one)): pages})
            case _:
                result.append(entry)
    return result


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of a folder into the navigation."""
    config.nav = _navigation(config.nav or [], Path(config.docs_dir))
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the first page, and what pages link to outside docs/, as far as that leads."""
    root = _root(config)
    waiting = ["index.md", *(file.src_uri for file in files.documentation_pages())]
    while waiting:
        uri = waiting.pop()
        path = root / _in_repository(uri)
        if uri not in files.src_uris and path.is_file():
            level = InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, uri, abs_src_path=str(path), inclusion=level))
        if path.suffix == ".md" and path.is_file():
            linked = {_in_site(_target(uri, link[2])) for link in _LINK.finditer(path.read_text())}
            waiting += [each for each in linked if each not in files.src_uris and each not in waiting]
            waiting = [each for each in waiting if (root / _in_repository(each)).is_file()]
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Have the links lead to where the site has things."""
    uri = page.file.src_uri

    def led(link: re.Match[str]) -> str:
        target = _target(uri, link[2])
        if (_root(config) / target).is_dir():
            return link[1]
        there = relpath(_in_site(target), str(PurePosixPath(uri).parent))
        return f"[{link[1]}]({there}{link[3] or ''})"

    return _LINK.sub(led, markdown)
