"""A ConfigMap or a Secret as the kubelet mounts it (AtomicWriter, kubernetes/pkg/volume/util/atomic_writer.go)."""

from __future__ import annotations

from pathlib import Path


class Mount:
    """A directory as the kubelet's AtomicWriter makes it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._number = 0
        directory.mkdir(parents=True)

    def put(self, **files: str) -> None:
        """Swap the content in one step, and remove what was there before."""
        self._number += 1
        new = self.directory / f"..2026_{self._number}"
        new.mkdir()
        for name, text in files.items():
            (new / name).write_text(text)
        link = self.directory / "..data"
        old = link.resolve() if link.is_symlink() else None
        temporary = self.directory / "..data_tmp"
        temporary.symlink_to(new.name)
        temporary.rename(link)
        for name in files:
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(f"..data/{name}")
        if old is not None:
            for each in old.iterdir():
                each.unlink()
            old.rmdir()
