"""``python -m bench.mirror``: measure, print, and write the page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.machine import machine
from bench.mirror.measure import Size, measure
from bench.mirror.page import Report, page
from bench.page import publish
from sidecar.demo.admin import ApiError
from sidecar.demo.controlplane import HOW_TO_GET_ASSETS, ControlPlane, ControlPlaneError, find_assets

_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "mirror.md"


def main() -> int:
    """Run; return the exit code."""
    usual = Size()
    parser = argparse.ArgumentParser(prog="bench.mirror", description="Measure what the mirror costs an API server.")
    parser.add_argument("--page", type=Path, default=_PAGE, help="the page; its figures are in the .json beside it")
    parser.add_argument("--agents", type=int, default=usual.agents, help="pods and nodes (default %(default)s)")
    parser.add_argument(
        "--processes", type=int, default=usual.processes, help="that all but two agents share (default %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=usual.seconds, help="of each stretch of nothing (default %(default)s)"
    )
    parser.add_argument("--failovers", type=int, default=usual.failovers, help="(default %(default)s)")
    parser.add_argument("--renewals", type=int, default=usual.renewals, help="of a Lease (default %(default)s)")
    arguments = vars(parser.parse_args())
    path: Path = arguments.pop("page")
    assets = find_assets()
    if assets is None:
        print(f"bench.mirror: no kube-apiserver and etcd: {HOW_TO_GET_ASSETS}", file=sys.stderr)
        return 1
    before = machine()
    try:
        with ControlPlane(assets) as plane:
            result = measure(plane, Size(**arguments))
    except (ControlPlaneError, ApiError, OSError) as error:
        print(f"bench.mirror: {error}", file=sys.stderr)
        return 1
    report = Report(before=before, after=machine(), result=result)
    text = page(report)
    print(text)
    publish(path, text, report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
