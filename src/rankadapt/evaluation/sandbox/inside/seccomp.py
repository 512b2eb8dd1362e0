"""The system calls that a jailed program may make, for x86-64: all others fail with EPERM.

There is none among them that starts another program or process, opens a socket, looks into another process,
mounts, loads or maps anything into the kernel, or makes memory that no limit counts. `clone` may start
threads, and `ioctl` may ask what a descriptor is.
"""

from __future__ import annotations

import ctypes
import errno

from rankadapt.evaluation.sandbox.inside import kernel

ALLOWED = (
    # read, write, seek, wait on descriptors that are open already
    0, 1, 3, 5, 7, 8, 17, 18, 19, 20, 22, 23, 32, 33, 72, 73, 74, 75, 77, 81, 217, 221,
    232, 233, 270, 271, 281, 291, 292, 293, 295, 296, 436,
    # files by name: whether a path may be reached is for Landlock to say; modes, owners and times, which it
    # does not know, cannot be set at all
    2, 4, 6, 21, 76, 79, 80, 82, 83, 84, 85, 86, 87, 88, 89, 95, 137, 138,
    257, 258, 262, 263, 264, 265, 266, 267, 269, 316, 332, 439,
    # memory and threads
    9, 10, 11, 12, 25, 28, 24, 202, 218, 273, 274, 309, 334,
    # signals, within the namespace of processes; timers and clocks
    13, 14, 15, 34, 35, 36, 37, 38, 62, 127, 128, 130, 131, 200, 201, 219, 228, 229, 230, 234, 96,
    # who and what this process is; its own limits, which can only be lowered
    39, 63, 97, 98, 99, 100, 102, 104, 107, 108, 110, 111, 115, 118, 120, 121, 124, 143, 145, 160, 186, 204,
    302, 318,
    # the end
    60, 61, 231,
)  # fmt: skip
IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: `isatty` and flags of a descriptor."""

CLONE, IOCTL, CLONE3 = 56, 16, 435
X86_64, X32 = 0xC000003E, 0x40000000
CLONE_THREAD, CLONE_NEW_ANYTHING = 0x00010000, 0x7E020080
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
FILTER_MODE = 1


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("yes", ctypes.c_uint8),
        ("no", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("code", ctypes.POINTER(_Instruction))]


def instructions() -> list[tuple[int, int, int, int]]:
    """The filter as classic BPF: (code, jump if true, jump if false, k)."""
    number, arch, argument0, argument1 = 0, 4, 16, 24
    refuse, absent = FAIL | errno.EPERM, FAIL | errno.ENOSYS
    program = [
        (LOAD, 0, 0, arch), (EQUAL, 1, 0, X86_64), (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, number), (AT_LEAST, 0, 1, X32), (RETURN, 0, 0, KILL),
        (EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, absent),
    ]  # fmt: skip
    for allowed in ALLOWED:
        program += [(EQUAL, 0, 1, allowed), (RETURN, 0, 0, ALLOW)]
    program += [
        (EQUAL, 0, 5, CLONE), (LOAD, 0, 0, argument0), (ANY_BIT, 2, 0, CLONE_NEW_ANYTHING),
        (ANY_BIT, 0, 1, CLONE_THREAD), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, refuse),
        (EQUAL, 0, 1 + 2 * len(IOCTLS), IOCTL), (LOAD, 0, 0, argument1),
    ]  # fmt: skip
    for request in IOCTLS:
        program += [(EQUAL, 0, 1, request), (RETURN, 0, 0, ALLOW)]
    return [*program, (RETURN, 0, 0, refuse)]


def restrict() -> None:
    """Puts the filter on this thread and all that come of it. Raises :class:`kernel.KernelError`."""
    code = [_Instruction(*i) for i in instructions()]
    program = _Program(len(code), (_Instruction * len(code))(*code))
    kernel.call("seccomp", FILTER_MODE, 0, program, step="seccomp filter")
