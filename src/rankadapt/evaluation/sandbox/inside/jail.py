"""How a process is locked in before a program that nobody has read runs in it.

    namespaces   no network, no other process to be seen or signalled, no shared memory
    tmpfs        a directory of its own, of bounded size, that is gone with the process
    limits       memory, processor time, file size, descriptors
    Landlock     of all files, only that directory to write, and the interpreter's library to read
    seccomp      no system call that starts a process, opens a socket, traces, mounts

Each of them has to be had: what cannot be set up raises, and nothing is run.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

from rankadapt.evaluation.sandbox.inside import kernel, landlock, seccomp

NEW_NS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
PRIVATE, RECURSIVE = 1 << 18, 1 << 14
NO_SUID, NO_DEV, NO_EXEC = 2, 4, 8
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/urandom")


def readable() -> list[str]:
    """The interpreter's own library, and what the dynamic loader looks into."""
    own = [os.path.dirname(os.__file__)]
    return [path for path in dict.fromkeys([*own, *LIBRARIES]) if path and os.path.exists(path)]


def alone() -> None:
    """Leaves all namespaces; what is forked next is the first process of a new one. Raises KernelError."""
    user, group = os.getuid(), os.getgid()
    everything = NEW_NS | NEW_UTS | NEW_IPC | NEW_USER | NEW_PID | NEW_NET
    kernel.call("unshare", everything, step="namespaces (user, mount, process, network)")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w") as stream:
            stream.write(text)


def own_directory(directory: str, size: int) -> None:
    """Puts an empty file system of ``size`` bytes on ``directory`` and goes there. Raises KernelError."""
    kernel.call("mount", b"none", b"/", None, PRIVATE | RECURSIVE, None, step="private mounts")
    options = f"size={size},nr_inodes=256,mode=700".encode()
    flags = NO_SUID | NO_DEV | NO_EXEC
    kernel.call("mount", b"tmpfs", directory.encode(), b"tmpfs", flags, options, step="tmpfs")
    os.chdir(directory)


def limit(memory: int, seconds: int, file_size: int) -> None:
    """Bounds of this process and all that come of it; none can be raised again."""
    bounds = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: file_size,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_CORE: 0,
    }
    for which, most in bounds.items():
        resource.setrlimit(which, (most, most))


def locked(directory: str | None) -> None:
    """No right that this process does not have can be got any more, and few are left. Raises KernelError."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    files = [device for device in DEVICES if os.path.exists(device)]
    landlock.restrict(readable(), directory, files)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    kernel.call("capset", header, none, step="dropping capabilities")
    seccomp.restrict()


def enter(directory: str, memory: int, seconds: int, file_size: int, disk: int) -> None:
    """Locks the calling process's child in and returns in it; the caller itself only waits and ends with it.

    Raises:
        KernelError: the kernel refuses a step.
        OSError: likewise.
    """
    alone()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    own_directory(directory, disk)
    limit(memory, seconds, file_size)
    sys.setrecursionlimit(10_000)
    locked(directory)
