"""What the demo must have told."""

from __future__ import annotations

import re

MASTERS = {"Election": "node-1", "Crash of the master": "node-2", "Its return": "node-1", "Planned stop": "node-2"}


def told(output: str) -> dict[str, str]:
    """The acts of the story by their titles, and the summary."""
    parts = re.split(r"^(?:\d\. )?(Election|Crash of the master|Its return|Planned stop|In all)$", output, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def check_story(output: str) -> None:
    acts = told(output)
    assert list(acts) == [*MASTERS, "In all"]
    for title, master in MASTERS.items():
        assert f" {master} answers for 10.77.0.100\n" in acts[title]
        table = acts[title].partition("$ kubectl get pods -l carp-role=master -L carp-role\n")[2].splitlines()
        assert table[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "CARP-ROLE"]
        assert [line.split()[:3] for line in table[1:] if line] == [[f"carp-{master}", "1/1", "Running"]]
        assert re.search(rf"^   {master} +[·█]*█+·*$", acts[title], flags=re.M), "its answers are in the picture"
        assert f"{title}: " in acts["In all"]
    outage = re.search(r"the client's outage: ([\d,]+) ms", acts["Crash of the master"])
    assert outage is not None
    assert int(outage[1].replace(",", "")) > 0
