"""Programs that a model wrote, run where they can do nothing and judged where they cannot lie.

    run_programs -> a worker per core (inside/server.py) -> for each program:
        the program, in a fresh interpreter that has locked itself in (inside/jail.py, inside/candidate.py)
           ^ calls            v plain data (inside/wire.py)
        the data set's tests, in another process, locked in as well (inside/judge.py)

Without the kernel features that this needs nothing is run at all. docs/sandbox.md says what is promised.
"""

from rankadapt.evaluation.sandbox.benchmarks import humaneval_program, mbpp_program
from rankadapt.evaluation.sandbox.runner import Limits, Program, Verdict, missing_features, run_programs

__all__ = [
    "Limits",
    "Program",
    "Verdict",
    "humaneval_program",
    "mbpp_program",
    "missing_features",
    "run_programs",
]
