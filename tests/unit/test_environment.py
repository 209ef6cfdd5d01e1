"""What start-up keeps of its environment: readable again and again, and for nobody to write to."""

from __future__ import annotations

import os

import pytest

from sidecar.live.environment import seal, unseal


def test_it_comes_back_as_it_was_and_cannot_be_changed() -> None:
    environ = {"CARP_VHID": "42", "CARP_PASSWORD": "a=b\nc", "CARP_XPARAM": "", "POD_NAME": "\udcff"}
    fd = seal(environ)
    try:
        assert unseal(fd) == environ
        assert unseal(fd) == environ
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def test_none_is_none() -> None:
    fd = seal({})
    assert unseal(fd) == {}
    os.close(fd)
