"""Draw the machine's table into docs/protocol.md, between its two markers: ``python -m tools.diagram``."""

from __future__ import annotations

from pathlib import Path

from sidecar.protocol.transitions import TRANSITIONS
from sidecar.protocol.types import Role

PAGE = Path(__file__).parents[1] / "docs" / "protocol.md"
BEGIN, END = "<!-- drawn from sidecar/protocol/transitions.py by `make docs` -->\n", "<!-- end of the drawing -->\n"


def mermaid() -> str:
    """Return the state diagram as a fenced block; reasons that lead from one role to the same other share an arrow."""
    arrows: dict[tuple[Role, Role], list[str]] = {}
    for (before, reason), after in TRANSITIONS.items():
        arrows.setdefault((before, after), []).append(reason.value)
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR", f"    [*] --> {Role.INIT}"]
    lines += [f"    {before} --> {after}: {'<br/>'.join(reasons)}" for (before, after), reasons in arrows.items()]
    return "\n".join([*lines, "```", ""])


def drawn(page: str) -> str:
    """Return ``page`` with the diagram of now. Raises ValueError where a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} has lost a marker of the drawing; put {BEGIN.strip()} and {END.strip()} back")
    return f"{before}{begin}{mermaid()}{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
