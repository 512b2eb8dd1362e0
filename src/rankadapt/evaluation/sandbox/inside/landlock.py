"""Landlock: which files a jailed program may open, held by the kernel beside the mounts."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from rankadapt.evaluation.sandbox.inside import kernel

READ = 1 << 2 | 1 << 3
"""Read a file, list a directory."""
READ_FILE = 1 << 2
FILE = 1 << 1 | 1 << 2
"""Read and write one file."""
BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Rights on files that each version of Landlock knows."""
VERSION = 1
TCP = 1 << 0 | 1 << 1
SCOPED = 1 << 0 | 1 << 1


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32)]


def version() -> int:
    """The kernel's version of Landlock. Raises :class:`kernel.KernelError` where there is none."""
    return kernel.call("landlock_create_ruleset", None, 0, VERSION, step="Landlock")


def restrict(readable: Iterable[str], writable: str | None, files: Iterable[str]) -> None:
    """Of all files, leaves reading below ``readable``, everything but devices and starting programs below
    ``writable``, and reading and writing the single ``files``; no TCP and no signal to the outside where the
    kernel's version knows them. Raises :class:`kernel.KernelError`."""
    found = version()
    everything = (1 << BITS[min(found, 5)]) - 1
    rules = _Ruleset(everything, TCP if found >= 4 else 0, SCOPED if found >= 6 else 0)
    size = 8 if found < 4 else 16 if found < 6 else 24
    ruleset = kernel.call("landlock_create_ruleset", rules, size, 0, step="Landlock rules")
    own = everything & ~(1 << 0 | 1 << 6 | 1 << 9 | 1 << 11 | 1 << 15)
    rights = [
        *((path, READ if os.path.isdir(path) else READ_FILE) for path in readable),
        *((p, FILE) for p in files),
    ]
    if writable is not None:
        rights.append((writable, own))
    for path, allowed in rights:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = _Beneath(allowed, descriptor)
        kernel.call("landlock_add_rule", ruleset, 1, rule, 0, step=f"Landlock rule for {path}")
        os.close(descriptor)
    kernel.call("landlock_restrict_self", ruleset, 0, step="Landlock")
    os.close(ruleset)
