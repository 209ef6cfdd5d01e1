"""``python -m sidecar``: the command ``carp-sidecar``, and the entry points of the processes that it starts.

The long-lived processes are told apart here, before anything is imported that only start-up needs.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run a process of the sidecar, or the command line; return the exit code."""
    match sys.argv[1:]:
        case ["parent", plan, *settings]:
            from sidecar.supervisor import main as parent  # noqa: PLC0415 - each process imports its own half only

            return parent(int(plan), *map(int, settings))
        case ["validate", fd, pid]:
            from sidecar.live.validate import main as validate  # noqa: PLC0415 - as above

            return validate(fd=int(fd), parent=int(pid))
        case ["engine", fd, pid, node, level, style]:
            from sidecar.engine.process import main as engine  # noqa: PLC0415 - as above

            return engine(fd=int(fd), parent=int(pid), node=node, level=level, style=style)
        case ["agent", fd, pid, level, style]:
            from sidecar.agent.process import main as agent  # noqa: PLC0415 - as above

            return agent(fd=int(fd), parent=int(pid), level=level, style=style)
        case ["command", pid, *argv] if argv:
            from sidecar.become import main as become  # noqa: PLC0415 - as above

            return become(parent=int(pid), argv=argv)
        case _:
            from sidecar.cli import main as cli  # noqa: PLC0415 - as above

            return cli()


if __name__ == "__main__":
    raise SystemExit(main())
