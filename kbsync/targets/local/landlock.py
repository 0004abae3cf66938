"""Leaves a process a few places of the file system and none else: Landlock (landlock(7), Linux 5.13)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same number on every architecture
_ASK_VERSION = 1
_PATH_BENEATH = 1

_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_READ = _READ_FILE | _READ_FOLDER
_OF_FILES = 1 << 0 | 1 << 1 | _READ_FILE | 1 << 14  # execute, write, read, truncate
_OF_FIRST = (1 << 13) - 1
_SINCE = ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15))  # moving to another folder, truncating, ioctl of devices
_TCP = 0b11  # bind, connect: since version 4
_SCOPED = 0b11  # abstract sockets and signals end at the fence: since version 6


def confine(readable: Iterable[str], writable: Iterable[str]) -> bool:
    """Leave this thread, and those it starts, nothing but these files and folders and what is below them.

    Needs PR_SET_NO_NEW_PRIVS. False, and nothing is changed, where the kernel cannot do it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    if version < 1:
        return False
    handled = _handled(version)
    rules = _ruleset(libc, version, handled)
    if rules < 0:
        return False
    try:
        for places, access in ((readable, _READ), (writable, handled)):
            for place in places:
                _allow(libc, rules, place, access)
        return bool(libc.syscall(_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _handled(version: int) -> int:
    return _OF_FIRST | sum(bit for since, bit in _SINCE if version >= since)


def _ruleset(libc: ctypes.CDLL, version: int, handled: int) -> int:
    """A descriptor; the attributes grew with the versions."""
    attributes = struct.pack("=QQQ", handled, _TCP, _SCOPED)
    attributes = attributes[: 24 if version >= 6 else 16 if version >= 4 else 8]
    return int(libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))


def _allow(libc: ctypes.CDLL, rules: int, place: str, access: int) -> None:
    """What is not there, or of a file system without paths, is left out."""
    try:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fitting = access if Path(place).is_dir() else access & _OF_FILES
        libc.syscall(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", fitting, descriptor), 0)
    finally:
        os.close(descriptor)
