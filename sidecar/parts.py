"""Import parts of a package without the package's own ``__init__``, where that imports all there is.

    with parts_of("pyroute2"):
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

``import pyroute2`` loads 300 modules and a database; the messages of rtnetlink are 25 of them. Python runs a package's
``__init__`` before any of its modules, unless the package is there already: in here an empty one with the same path is.
Afterwards it is gone, so that ``import pyroute2`` is elsewhere what it always was.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec


@contextlib.contextmanager
def parts_of(*packages: str) -> Iterator[None]:
    """Import modules of ``packages``, each named after its parent, and not the packages.

    Raises ImportError, with a remedy, where a version of them does not have these parts.
    """
    empty = {}
    try:
        for name in packages:
            if name not in sys.modules and (spec := find_spec(name)) is not None:
                empty[name] = sys.modules[name] = module_from_spec(spec)
        yield
    except ImportError as error:
        raise ImportError(_remedy(packages[0], error), name=error.name, path=error.path) from error
    finally:
        for name, module in empty.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _remedy(package: str, error: ImportError) -> str:
    from importlib import metadata  # noqa: PLC0415 - only for this message

    try:
        wanted = [each for each in metadata.requires("carp-sidecar") or () if each.startswith(package)]
    except metadata.PackageNotFoundError:
        wanted = []
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        found = "(not installed)"
    words = f"this carp-sidecar cannot use {package} {found}: {error}"
    return f"{words}; install a version that its requirements name" + (f" ({', '.join(wanted)})" if wanted else "")
