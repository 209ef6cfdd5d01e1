"""The settings as a page of the documentation, made from the model: ``python -m sidecar.config.reference``."""

from __future__ import annotations

import sys

from pydantic import BaseModel

from sidecar.config.fields import remedy_of
from sidecar.config.model import GlobalKeys, GroupKeys, IdentityKeys, env_name
from sidecar.config.probes import ProbeKeys

_HEAD = """\
# Settings

Made from the settings' model by `make docs`; a test fails where this page and the model differ.

Each setting comes from an environment variable, or from a YAML file under its key (the variable without `CARP_`, in
lower case). The environment goes before the file, the file before the defaults; within the file, what stands under
`nodes:` for this node goes before the group's own, and that before the top level. An empty value counts as unset, but
for CARP_HTTP_LISTEN.
`carp-sidecar check` prints what is in force, secrets masked; every mistake ends with exit code 2 and one line that
names the setting, the fault and the remedy. A file that changes is applied while the sidecar runs: [live
settings](live-settings.md).

```yaml
password_file: /run/secrets/carp/password     # top level: for all groups
preempt: true
groups:                                       # leave this out for a single group and set its keys at the top
  - {name: web, vhid: 42, vips: [10.0.0.200, "2001:db8::200"]}
  - {name: db, vhid: 43, vips: [10.0.0.201]}
nodes:                                        # by NODE_NAME
  node-a: {advskew: 0}                        # for all groups on node-a
  node-b: {advskew: 100, groups: {db: {advskew: 10}}}
```
"""

_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("A group", GroupKeys),
    ("A health probe (an entry of `health:`)", ProbeKeys),
    ("The sidecar", GlobalKeys),
    ("The node and the pod (environment only)", IdentityKeys),
)


def markdown() -> str:
    """Return the page."""
    text = _HEAD
    for title, model in _SECTIONS:
        kind, named = ("key", str) if model is ProbeKeys else ("variable", env_name)
        text += f"\n## {title}\n\n| {kind} | default | meaning | allowed |\n|---|---|---|---|\n"
        for field, info in model.model_fields.items():
            default = "" if info.default in (None, ()) else f"`{_plain(info.default)}`"
            meaning = " ".join((info.description or "").split())
            text += f"| `{named(field)}` | {default} | {meaning} | {remedy_of(model, field)} |\n"
    return text


def _plain(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}s"
        case _:
            return str(value)


if __name__ == "__main__":
    sys.stdout.write(markdown())
