"""``python -m sidecar``: the same command as ``carp-sidecar``."""

from sidecar.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
