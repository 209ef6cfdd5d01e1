"""Dropping rights for good: capabilities(7), PR_SET_NO_NEW_PRIVS (prctl(2)), and a parent's death."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct

CAP_NET_ADMIN = 12
CAP_NET_RAW = 13

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_LAST_POSSIBLE_CAPABILITY = 63
_NOBODY = 65534


class PrivilegeError(Exception):
    """Rights could not be dropped; the process must not go on."""


def effective_capabilities() -> int:
    """Return this process's effective capabilities as a bit mask (proc(5), CapEff)."""
    with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib takes longer than all else of a command's start
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    raise PrivilegeError("/proc/self/status has no CapEff line")


def missing_capabilities() -> tuple[str, ...]:
    """Return which of the capabilities that the parent needs it does not have, by name."""
    have = effective_capabilities()
    needed = (("NET_ADMIN", CAP_NET_ADMIN), ("NET_RAW", CAP_NET_RAW))
    return tuple(name for name, bit in needed if not have >> bit & 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent (a pid) does; if that has happened already, end now."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def drop(*, change_user: bool) -> None:
    """Give up every capability and the power to regain one by exec; change to uid 65534 where wanted and allowed.

    A container without CAP_SETUID can't change its uid, nor can a user namespace that maps one user only: there the
    empty capability sets are what counts. Raises PrivilegeError if any capability is left.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(_LAST_POSSIBLE_CAPABILITY + 1):
        with contextlib.suppress(OSError):  # needs CAP_SETPCAP; no_new_privs stands in for it
            _prctl(_PR_CAPBSET_DROP, capability)
    if change_user and os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _set_capabilities(0)
    if effective_capabilities() != 0:
        raise PrivilegeError("capabilities are left after dropping them")


def keep_network_rights() -> None:
    """Give up every capability but NET_ADMIN and NET_RAW, and the power to regain one by exec; keep the user.

    What is exec'ed next has these two as well, whoever runs it (ambient set, capabilities(7)).
    """
    kept = effective_capabilities() & (1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(_LAST_POSSIBLE_CAPABILITY + 1):
        if not kept >> capability & 1:
            with contextlib.suppress(OSError):  # needs CAP_SETPCAP; no_new_privs stands in for it
                _prctl(_PR_CAPBSET_DROP, capability)
    _set_capabilities(kept)
    for capability in (CAP_NET_ADMIN, CAP_NET_RAW):
        if kept >> capability & 1:
            with contextlib.suppress(OSError):  # root keeps them without
                _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def _set_capabilities(mask: int) -> None:
    """Make ``mask`` the effective, the permitted and the inheritable set (capset(2))."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0))
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = ctypes.create_string_buffer(struct.pack("6I", low, low, low, high, high, high))
    if _libc().capset(header, data) != 0:
        code = ctypes.get_errno()
        raise PrivilegeError(f"capset: {os.strerror(code)}")


def _prctl(option: int, argument: int, second: int = 0) -> None:
    if _libc().prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(second), 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
