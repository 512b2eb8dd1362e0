"""Around Hydra: a command line that does not compose is reported as every other mistake is."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from rankadapt.errors import ConfigError, Problem, RankAdaptError
from rankadapt.runs.compose import composed
from rankadapt.runs.sweep import EXIT_USER_ERROR


def explained(train: Callable[[], Any], conf: Path) -> None:
    """Call ``train``, a Hydra main of the folder ``conf``; exits with 2, and says why, if its command line
    cannot be composed. With ``HYDRA_FULL_ERROR=1`` in the environment, Hydra speaks for itself."""
    if "HYDRA_FULL_ERROR" in os.environ:
        train()
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand over the exception, instead of printing it
    try:
        train()
    except (HydraException, OmegaConfBaseException) as error:
        print(f"\n{_explanation(error, conf)}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def _explanation(error: Exception, conf: Path) -> RankAdaptError:
    """One of this library's errors, if a resolver raised it; else what Hydra's error means."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RankAdaptError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return ConfigError(_problem(error, conf))


def _problem(error: Exception, conf: Path) -> Problem:
    missing = getattr(error, "missing_cfg_file", None)
    if isinstance(error, MissingConfigException) and isinstance(missing, str) and "/" in missing:
        return _no_choice(missing, conf)
    if isinstance(error, ConfigCompositionException):
        cause = error.__cause__
        if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.full_key:
            return _no_key(str(cause.full_key), conf)
    return Problem("command line", None, str(error).strip())


def _no_choice(missing: str, conf: Path) -> Problem:
    group, _, value = missing.partition("/")
    choices = sorted(
        str(file.relative_to(conf / group).with_suffix("")) for file in (conf / group).rglob("*.yaml")
    )
    near = difflib.get_close_matches(value, choices, n=1)
    hint = f"did you mean {group}={near[0]}? " if near else ""
    return Problem(group, value, "there is no such choice", f"{hint}choices: {', '.join(choices)}")


def _no_key(key: str, conf: Path) -> Problem:
    given = dict(argument.lstrip("+~").partition("=")[::2] for argument in sys.argv[1:])
    known = _known_keys(conf)
    near, section = near_keys(key, known), key.rpartition(".")[0]
    here = ", ".join(k for k in known if k.rpartition(".")[0] == section)
    remedy = f"did you mean {' or '.join(near)}?" if near else f"known keys: {here}"
    return Problem(key, given.get(key), "is not a known key", remedy)


def near_keys(key: str, known: list[str]) -> list[str]:
    """Up to three dotted keys that ``key`` may stand for: those that end in it, or else near ones."""
    known = [k for k in known if not key.startswith(f"{k}.")]
    ends = [k for k in known if k.endswith(f".{key}")]
    alike = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    leaves = {k.rpartition(".")[2]: k for k in reversed(known)}
    leaf = difflib.get_close_matches(key.rpartition(".")[2], list(leaves), n=1, cutoff=0.75)
    return (ends or alike or [leaves[name] for name in leaf])[:3]


def _known_keys(conf: Path) -> list[str]:
    """All keys of the configuration with the groups that the command line chose, if they go together."""
    chosen = [a for a in sys.argv[1:] if (conf / a.partition("=")[0]).is_dir() and "," not in a]
    for overrides in (chosen, []):
        try:
            return list(_paths(OmegaConf.to_container(composed(conf, overrides))))
        except HydraException:
            continue
    return []


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")
