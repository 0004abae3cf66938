"""Refuses system calls to this process for good: seccomp(2) with classic BPF.

The numbers are those of the syscall tables, x86_64 first, aarch64 second; None: not there.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # include/uapi/linux/audit.h
_MACHINES = tuple(_AUDIT_ARCH)
_SECCOMP = (317, 277)
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_X32_BIT = 0x40000000
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | 13  # SECCOMP_RET_ERRNO | EACCES
_UNKNOWN = 0x00050000 | 38  # ENOSYS: glibc then takes the older call, whose arguments a filter can see

Numbers = Sequence[tuple[int | None, int | None]]
Step = tuple[int, int, int, int]
_LOAD, _EQUAL, _AT_LEAST, _HAS, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06

_OUTSIDE: Numbers = (
    (41, 198),  # socket
    (425, 425),  # io_uring_setup: it has sockets of its own
    (59, 221),  # execve
    (322, 281),  # execveat
    (57, None),  # fork
    (58, None),  # vfork
    (101, 117),  # ptrace
    (310, 270),  # process_vm_readv
    (311, 271),  # process_vm_writev
    (312, 272),  # kcmp
    (440, 440),  # process_madvise
    (434, 434),  # pidfd_open
    (424, 424),  # pidfd_send_signal
    (438, 438),  # pidfd_getfd
    (200, 130),  # tkill
    (129, 138),  # rt_sigqueueinfo
    (297, 240),  # rt_tgsigqueueinfo
    (272, 97),  # unshare
    (308, 268),  # setns
    (165, 40),  # mount
    (166, 39),  # umount2
    (155, 41),  # pivot_root
    (161, 51),  # chroot
    (428, 428),  # open_tree
    (429, 429),  # move_mount
    (430, 430),  # fsopen
    (304, 265),  # open_by_handle_at
    (321, 280),  # bpf
    (298, 241),  # perf_event_open
    (323, 282),  # userfaultfd
    (248, 217),  # add_key
    (249, 218),  # request_key
    (250, 219),  # keyctl
    (141, 140),  # setpriority
    (29, 194),  # shmget
    (68, 186),  # msgget
    (64, 190),  # semget
    (240, 180),  # mq_open
)
_CLONE, _CLONE3, _CLONE_THREAD = (56, 220), (435, 435), 0x10000
_KILL, _TGKILL, _PRLIMIT = (62, 129), (234, 131), (302, 261)

_CHANGES: Numbers = (
    (85, None),  # creat
    (76, 45),  # truncate
    (77, 46),  # ftruncate
    (285, 47),  # fallocate
    (87, None),  # unlink
    (263, 35),  # unlinkat
    (84, None),  # rmdir
    (82, None),  # rename
    (264, 38),  # renameat
    (316, 276),  # renameat2
    (86, None),  # link
    (265, 37),  # linkat
    (88, None),  # symlink
    (266, 36),  # symlinkat
    (83, None),  # mkdir
    (258, 34),  # mkdirat
    (133, None),  # mknod
    (259, 33),  # mknodat
    (90, None),  # chmod
    (91, 52),  # fchmod
    (268, 53),  # fchmodat
    (452, 452),  # fchmodat2
    (92, None),  # chown
    (93, 55),  # fchown
    (94, None),  # lchown
    (260, 54),  # fchownat
    (132, None),  # utime
    (235, None),  # utimes
    (261, None),  # futimesat
    (280, 88),  # utimensat
    (188, 5),  # setxattr
    (189, 6),  # lsetxattr
    (190, 7),  # fsetxattr
    (197, 14),  # removexattr
    (198, 15),  # lremovexattr
    (199, 16),  # fremovexattr
)
_OPEN, _OPENAT, _OPENAT2 = (2, None), (257, 56), (437, 437)
_CHANGING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def refuse_outside() -> bool:
    """No socket, no program or process, no signal to others, no look into them, no door to the kernel."""
    own = os.getpid()
    rules = (
        *_refused(_OUTSIDE),
        *_only(_CLONE, 0, (_HAS, _CLONE_THREAD)),
        *_only(_KILL, 0, (_EQUAL, own)),
        *_only(_TGKILL, 0, (_EQUAL, own)),
        *_only(_PRLIMIT, 0, (_EQUAL, 0)),
        *_refused((_CLONE3,), _UNKNOWN),
    )
    return _install(rules)


def refuse_changes() -> bool:
    """No file or folder can be made, changed, moved or removed any more; what is open stays open."""
    rules = (
        *_refused(_CHANGES),
        *_never(_OPEN, 1, _CHANGING_FLAGS),
        *_never(_OPENAT, 2, _CHANGING_FLAGS),
        *_refused((_OPENAT2,), _UNKNOWN),
    )
    return _install(rules)


def _number(numbers: tuple[int | None, int | None]) -> int | None:
    machine = platform.machine()
    return numbers[_MACHINES.index(machine)] if machine in _MACHINES else None


def _refused(calls: Numbers, answer: int = _REFUSE) -> tuple[Step, ...]:
    known = (number for call in calls if (number := _number(call)) is not None)
    return tuple(step for n in known for step in ((_EQUAL, 0, 1, n), (_ANSWER, 0, 0, answer)))


def _only(
    call: tuple[int | None, int | None],
    argument: int,
    test: tuple[int, int],
    yes: int = _ALLOW,
    no: int = _REFUSE,
) -> tuple[Step, ...]:
    """`yes` where the low half of an argument passes the test, else `no`; other calls go on."""
    number = _number(call)
    if number is None:
        return ()
    how, value = test
    return (
        (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, 16 + 8 * argument),  # seccomp_data.args, little-endian
        (how, 0, 1, value),
        (_ANSWER, 0, 0, yes),
        (_ANSWER, 0, 0, no),
    )


def _never(call: tuple[int | None, int | None], argument: int, flags: int) -> tuple[Step, ...]:
    """Refused where any of `flags` is set."""
    return _only(call, argument, (_HAS, flags), yes=_REFUSE, no=_ALLOW)


def _install(rules: Sequence[Step]) -> bool:
    """For all threads; needs PR_SET_NO_NEW_PRIVS. False where the kernel or the machine has no filters."""
    machine = platform.machine()
    if machine not in _MACHINES:
        return False
    code = _program(_AUDIT_ARCH[machine], rules)
    program = _Program(len(code) // 8, code)
    seccomp = _SECCOMP[_MACHINES.index(machine)]
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(seccomp, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)) == 0)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _program(architecture: int, rules: Sequence[Step]) -> bytes:
    """Another architecture's calls are refused, then come the rules, and the rest is allowed."""
    steps = (
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_EQUAL, 1, 0, architecture),
        (_ANSWER, 0, 0, _REFUSE),
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_ANSWER, 0, 0, _REFUSE),
        *rules,
        (_ANSWER, 0, 0, _ALLOW),
    )
    return b"".join(struct.pack("<HBBI", *step) for step in steps)
