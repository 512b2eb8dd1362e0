"""Programs that try to pass a test that they cannot pass, to get out, or to take the machine with them.

Each is asked for ``f(2)``, which should be 5, and gets it wrong. In the text ``{secret}`` is a file outside with a
secret in it, ``{outside}`` a directory outside, ``{parent}`` the process that asks, ``{port}`` a port that listens.
"""

# ruff: noqa: E501

from __future__ import annotations

FORGE_DESCRIPTORS = """
import os
def f(x):
    for fd in range(64):
        for text in (b"passed", b"PASS\\n", b"1\\n", b'{{"reason": "passed", "seconds": 0}}\\n'):
            try: os.write(fd, text)
            except OSError: pass
    return 0
"""
CALL_BY_NUMBER = """
import ctypes
def f(x):
    libc = ctypes.CDLL(None, use_errno=True)
    return 5 if libc.syscall({number}, {arguments}) >= 0 else 0
"""


def by_number(number: int, *arguments: object) -> str:
    """A system call by its number; 5 where it is let through."""
    text = CALL_BY_NUMBER.replace("{number}", str(number))
    return text.replace("{arguments}", ", ".join(map(str, arguments or (0, 0, 0, 0))))


def attempt(code: str) -> str:
    """5 where ``code`` goes through, 0 where it raises."""
    lines = "\n".join(f"        {line}" for line in code.strip().splitlines())
    return f"def f(x):\n    try:\n{lines}\n        return 5\n    except BaseException:\n        return 0\n"


HOSTILE: dict[str, str] = {
    # what never ends or takes too much
    "infinite loop": "def f(x):\n    while True: pass",
    "infinite loop at import": "while True: pass",
    "sleeps": "import time\ndef f(x): time.sleep(1000)",
    "ignores signals": "import signal\nfor s in range(1, 64):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass",
    "memory bomb": "def f(x):\n    a = []\n    while True: a.append(bytearray(10**7))",
    "memory bomb by one object": "def f(x): return len(bytearray(10**11))",
    "big integer": "def f(x): return 9 ** 9 ** 9 ** 9",
    "fork bomb": "import os\ndef f(x):\n    while True: os.fork()",
    "threads without end": "import threading, time\ndef f(x):\n    while True: threading.Thread(target=time.sleep, args=(1000,)).start()",
    "deep recursion": "def f(x): return f(x) + 1",
    "deep recursion in C": "def f(x):\n    a = []\n    for _ in range(10**6): a = [a]\n    return repr(a) == a",
    "deeply nested answer": "def f(x):\n    a = 5\n    for _ in range(5000): a = [a]\n    return a",
    "huge output": "import sys\ndef f(x):\n    while True: sys.stdout.write('x' * 10**6)",
    "huge answer": "def f(x): return 'x' * 10**8",
    "fills the disk": attempt(
        "while True:\n    open(str(id(object())) + str(time()), 'wb').write(b'x' * 10**6)"
    ).replace("def f", "from time import time\ndef f"),
    "one huge file": attempt("open('a', 'wb').write(b'x' * 10**8)"),
    # the verdict
    "exits with success": "import sys\ndef f(x): sys.exit(0)",
    "exits with success at import": "import sys\nsys.exit(0)",
    "exits at once": "import os\ndef f(x): os._exit(0)",
    "exits at once at import": "import os\nos._exit(0)",
    "prints PASS": "def f(x):\n    print('PASS'); print('passed')\n    return 0",
    "forges on every descriptor": FORGE_DESCRIPTORS.replace("{{", "{").replace("}}", "}"),
    "forges at import": FORGE_DESCRIPTORS.replace("{{", "{").replace("}}", "}") + "f(1)",
    "is equal to everything": "class E:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n    def __bool__(self): return True\ndef f(x): return E()",
    "an int equal to everything": "class E(int):\n    def __eq__(self, o): return True\n    def __hash__(self): return 5\ndef f(x): return E(0)",
    "a str equal to everything": "class E(str):\n    def __eq__(self, o): return True\n    def __hash__(self): return 5\ndef f(x): return E('5')",
    "a list equal to everything": "class E(list):\n    def __eq__(self, o): return True\ndef f(x): return E([5])",
    "lies about its class": "class E:\n    @property\n    def __class__(self): return int\n    def __eq__(self, o): return True\n    def __int__(self): return 5\n    def __index__(self): return 5\ndef f(x): return E()",
    "a float that lies": "class E(float):\n    def __eq__(self, o): return True\n    def __sub__(self, o): return 0.0\n    __rsub__ = __sub__\ndef f(x): return E(1.0)",
    "patches builtins": "import builtins\nbuiltins.AssertionError = ValueError\nbuiltins.abs = lambda x: 0\nbuiltins.all = lambda x: True\ndef f(x): return 0",
    "patches every module": "import sys\nfor m in list(sys.modules.values()):\n    for k in list(vars(m)):\n        if callable(getattr(m, k, None)) and not k.startswith('_'):\n            try: setattr(m, k, lambda *a, **b: [True, 5])\n            except Exception: pass\ndef f(x): return 0",
    "patches the wire": "import sys\nw = sys.modules['rankadapt.evaluation.sandbox.inside.wire']\nw.encode = lambda *a: b'passed'\ndef f(x): return 0",
    "answers before it is asked": "import os\nfrom rankadapt.evaluation.sandbox.inside import wire\nfor fd in range(3, 32):\n    try: wire.send(fd, wire.encode([True, None])); wire.send(fd, wire.encode([True, 0]))\n    except Exception: pass\ndef f(x): return 0",
    "raises at the end": "import atexit\natexit.register(lambda: print('passed'))\ndef f(x): return 0",
    "raises AssertionError's rival": "def f(x): raise SystemExit(0)",
    "looks through frames": "import sys, gc\ndef f(x):\n    frame, found = sys._getframe(), []\n    while frame:\n        found += [v for v in frame.f_locals.values() if isinstance(v, str) and 'f(' + '2)' in v]\n        frame = frame.f_back\n    found += [o for o in gc.get_objects() if isinstance(o, dict) and isinstance(o.get('te' + 'sts'), str)]\n    return 5 if found else 0",
    "raises StopIteration": "def f(x): raise StopIteration",
    # the outside
    "reads a secret": attempt("assert 'swordfish' in open('{secret}').read()"),
    "reads a secret through a link": attempt(
        "import os\nos.symlink('{secret}', 'link')\nassert 'swordfish' in open('link').read()"
    ),
    "reads a secret through /proc": attempt("assert 'swordfish' in open('/proc/1/root{secret}').read()"),
    "reads the environment of others": attempt("assert open('/proc/{parent}/environ').read() or True"),
    "lists the home directory": attempt("import os\nassert os.listdir('/root') or os.listdir('/home')"),
    "reads the password file": attempt("open('/etc/passwd').read()"),
    "writes outside": attempt("open('{outside}/trace', 'w').write('x')"),
    "makes a directory outside": attempt("import os\nos.mkdir('{outside}/trace')"),
    "removes outside": attempt("import os\nos.remove('{secret}')"),
    "truncates outside": attempt("import os\nos.truncate('{secret}', 0)"),
    "changes the mode of a file outside": attempt("import os\nos.chmod('{secret}', 0o777)"),
    "changes the times of a file outside": attempt("import os\nos.utime('{secret}', (1, 1))"),
    "changes the owner of a file outside": attempt("import os\nos.chown('{secret}', 0, 0)"),
    "writes to /tmp": attempt("open('/tmp/rankadapt-trace', 'w').write('x')"),
    "writes to shared memory": attempt("open('/dev/shm/rankadapt-trace', 'w').write('x')"),
    "connects": attempt("import socket\nsocket.create_connection(('127.0.0.1', {port}), 2).close()"),
    "opens a raw socket": attempt("import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    "opens a local socket": attempt("import socket\nsocket.socketpair()"),
    "listens": attempt("import socket\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()"),
    "kills its parent": attempt("import os\nos.kill({parent}, 9)"),
    "kills everything": attempt("import os\nos.kill(-1, 9)"),
    "kills the process group": attempt("import os\nos.killpg(os.getppid() or {parent}, 9)"),
    "starts a program": attempt("import subprocess\nsubprocess.run(['/bin/true'], check=True)"),
    "starts a shell": attempt("import os\nassert os.system('true') == 0"),
    "replaces itself": attempt("import os\nos.execv('/bin/true', ['true'])"),
    "a daemon": attempt("import os\nassert os.fork() >= 0"),
    "a daemon of its own session": attempt("import os\nos.setsid()\nassert os.fork() >= 0"),
    "a process by posix_spawn": attempt("import os\nos.posix_spawn('/bin/true', ['true'], {})"),
    "a process by multiprocessing": attempt(
        "import multiprocessing\np = multiprocessing.Process(target=print); p.start(); p.join(); assert p.exitcode == 0"
    ),
    "raises its limits": attempt("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))"),
    "becomes another user": attempt("import os\nos.setuid(12345)"),
    "changes the root": attempt("import os\nos.chroot('.')"),
    "unshare by number": by_number(272, 0x10000000),
    "mount by number": by_number(165, 0, "b'/'", 0, 4096, 0),
    "ptrace by number": by_number(101, 0, 0, 0, 0),
    "read another's memory by number": by_number(310, "{parent}", 0, 0, 0, 0, 0),
    "open another's descriptor by number": by_number(438, 3, 0, 0),
    "clone3 by number": by_number(435, 0, 0),
    "vfork by number": by_number(58),
    "bpf by number": by_number(321, 0, 0, 0),
    "keyring by number": by_number(250, 0, 0, 0),
    "userfaultfd by number": by_number(323, 0),
    "io_uring by number": by_number(425, 1, 0),
    "perf by number": by_number(298, 0, 0, -1, -1, 0),
    "memfd by number": by_number(319, "b'x'", 0),
    "new seccomp by number": by_number(317, 1, 0, 0),
    # what is no program
    "a syntax error": "def f(x: return 5",
    "null bytes": "def f(x): return 5\0",
    "nothing": "",
    "another name": "def g(x): return 5",
    "no function": "f = 5",
    "wrong arguments": "def f(): return 5",
    "a lone surrogate": "def f(x): return '\\ud800'",
    "closes all descriptors": "import os\nos.closerange(0, 100)\ndef f(x): return 5",
    "replaces its descriptors": "import os\nr, w = os.pipe()\nfor fd in range(3, 32):\n    try: os.dup2(r, fd)\n    except OSError: pass\ndef f(x): return 5",
}
