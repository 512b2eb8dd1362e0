"""What the fresh interpreter of a program does: lock itself in, say so, and serve.

It imports little: most of the time that a program takes is its start.
"""

from __future__ import annotations

import os
import sys

from rankadapt.evaluation.sandbox.inside import candidate, jail, wire
from rankadapt.evaluation.sandbox.inside.kernel import KernelError

READY = "ready"
BOUNDS = ("memory", "cpu", "file_size", "disk", "message")
"""The limits in the order of the arguments, behind two descriptors and the directory."""


def locked_in() -> None:
    """Read the arguments, and never return."""
    source, sink = int(sys.argv[2]), int(sys.argv[3])
    memory, cpu, file_size, disk, message = map(int, sys.argv[5:])
    try:
        jail.enter(sys.argv[4], memory, cpu, file_size, disk)
    except (KernelError, OSError) as error:
        wire.send(sink, wire.encode(f"sandbox: {error}"))
        os._exit(1)
    wire.send(sink, wire.encode(READY))
    candidate.serve(source, sink, message)
