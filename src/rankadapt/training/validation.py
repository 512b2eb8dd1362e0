"""From a composed configuration to typed objects, or to the list of all that is wrong with it."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import types
import typing
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, TypeAdapter, ValidationError

from rankadapt.errors import ConfigError, Problem
from rankadapt.training.combinations import contradictions
from rankadapt.training.config import RunConfig

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def parse(cfg: DictConfig | Mapping[str, Any]) -> RunConfig:
    """Validate a composed configuration.

    Raises:
        ConfigError: with every problem found, each as path, value, reason, remedy.
    """
    raw = _plain(cfg)
    hints = get_type_hints(RunConfig, include_extras=True)
    problems = [_unknown(key, "", hints, _nested(raw)) for key in raw if key not in hints]
    values: dict[str, Any] = {}
    for name, hint in hints.items():
        if name in raw:
            values[name] = _section(name, hint, raw[name], problems)
        elif _required(name):
            problems.append(Problem(name, None, "is missing"))
    if not problems:
        problems += contradictions(RunConfig(**values))
    if problems:
        raise ConfigError(problems)
    return RunConfig(**values)


def _plain(cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(cfg, DictConfig):
        return dict(cfg)
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            Problem(str(error.full_key or "config"), None, str(error).splitlines()[0])
        ) from error
    return typing.cast(dict[str, Any], plain)


def _section(name: str, hint: Any, value: Any, problems: list[Problem]) -> Any:
    """The validated value of one section; problems are added to the list and None is returned."""
    kind, optional = _unwrapped(hint)
    if isinstance(value, Mapping) and "_target_" in value:
        value = dict(value)
        target = value.pop("_target_")
        if target is None and optional:
            return None
        found = _located(f"{name}._target_", target, kind, problems)
        if found is None:
            return None
        kind = found
    try:
        return _adapter(kind if value is not None else hint).validate_python(value)
    except ValidationError as error:
        problems += _by_path([_problem(name, kind, e) for e in error.errors()])
        return None


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Dataclasses are checked as they stand; their own configuration forbids unknown keys."""
    if dataclasses.is_dataclass(kind) and "__pydantic_config__" not in vars(kind):
        kind.__pydantic_config__ = STRICT  # type: ignore[union-attr]
    return TypeAdapter(kind)


def _located(path: str, target: object, base: Any, problems: list[Problem]) -> Any:
    """The class that ``_target_`` names, if it is a dataclass of the right kind."""
    module, _, name = str(target).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        problems.append(Problem(path, target, f"cannot be imported ({error})"))
        return None
    if not (isinstance(found, type) and issubclass(found, base) and dataclasses.is_dataclass(found)):
        problems.append(Problem(path, target, f"is not a dataclass derived from {base.__name__}"))
        return None
    return found


def _unwrapped(hint: Any) -> tuple[Any, bool]:
    """``X | None`` -> (X, True); else (X, False)."""
    if get_origin(hint) in (typing.Union, types.UnionType) and type(None) in get_args(hint):
        return next(a for a in get_args(hint) if a is not type(None)), True
    return hint, False


def _problem(section: str, kind: Any, error: Any) -> Problem:
    parts = [str(p) for p in error["loc"]]
    fields = {f.name for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return _unknown(parts[0], f"{section}.", fields)
    # A union reports each of its members; keep the key, drop the member's name.
    path = ".".join([section, *parts[:1]])
    missing = error["type"] in ("missing", "missing_argument")
    message = "is missing" if missing else error["msg"].removeprefix("Value error, ")
    return Problem(path, None if missing else error["input"], _lower(message), "")


def _by_path(problems: list[Problem]) -> list[Problem]:
    """One problem per path: a union of types reports each of its members."""
    merged: dict[str, Problem] = {}
    for p in problems:
        first = merged.setdefault(p.path, p)
        if p.reason not in first.reason:
            merged[p.path] = dataclasses.replace(first, reason=f"{first.reason}, or {p.reason}")
    return list(merged.values())


def _unknown(key: str, prefix: str, known: Any, elsewhere: Mapping[str, str] | None = None) -> Problem:
    near = difflib.get_close_matches(key, list(known), n=1)
    if not near and elsewhere and key in elsewhere:
        near = [elsewhere[key]]
    remedy = f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(sorted(known))}"
    return Problem(f"{prefix}{key}", None, "is not a known key", remedy)


def _nested(raw: Mapping[str, Any]) -> dict[str, str]:
    """Key inside a section -> its whole path: what is meant by a key that has lost its section."""
    sections = [(name, value) for name, value in raw.items() if isinstance(value, Mapping)]
    return {key: f"{name}.{key}" for name, value in reversed(sections) for key in value}


def _required(name: str) -> bool:
    field = next(f for f in dataclasses.fields(RunConfig) if f.name == name)
    return field.default is dataclasses.MISSING


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
