"""System calls that the standard library does not offer, for x86-64."""

from __future__ import annotations

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "capset": 126,
    "pivot_root": 155,
    "prctl": 157,
    "mount": 165,
    "umount2": 166,
    "unshare": 272,
    "seccomp": 317,
    "open_tree": 428,
    "move_mount": 429,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38


class KernelError(Exception):
    """The kernel refused a step: its name and why."""

    def __init__(self, step: str, number: int):
        super().__init__(f"{step}: {os.strerror(number)}")
        self.number = number


def call(name: str, *arguments: int | bytes | ctypes.Array | ctypes.Structure | None, step: str = "") -> int:
    """The result of the system call ``name``. Raises :class:`KernelError`, which names ``step``."""
    result = LIBC.syscall(ctypes.c_long(NUMBERS[name]), *map(_argument, arguments))
    if result == -1:
        raise KernelError(step or name, ctypes.get_errno())
    return int(result)


def prctl(option: int, value: int) -> None:
    """``prctl(option, value, 0, 0, 0)``. Raises :class:`KernelError`."""
    call("prctl", option, value, 0, 0, 0, step=f"prctl({option})")


def _argument(value: object) -> object:
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, ctypes.Array | ctypes.Structure):
        return ctypes.byref(value)
    return ctypes.c_char_p(value)  # type: ignore[arg-type]
