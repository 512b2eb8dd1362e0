"""Folders laid out like the hub's repositories: read whole, or refused with the file's name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rankadapt.errors import DataError, ModelError, Problem
from rankadapt.rows import ParquetRows, Rows

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")


def read_split(folder: Path, config: str, split: str, where: str) -> Rows:
    """One split from a data set's folder, straight from its parquet files.

    The Arrow cache of ``datasets`` is left aside: it goes on serving the old rows after a parquet
    file has changed.

    Raises:
        DataError: a file is missing or damaged; it is named.
    """
    return ParquetRows(_split_files(folder, config, split), where)


def _split_files(folder: Path, config: str, split: str) -> list[Path]:
    patterns = _split_patterns(folder, config, split)
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    if not files:
        wanted = ", ".join(str(folder / pattern) for pattern in patterns)
        found = sorted(str(file.relative_to(folder)) for file in folder.glob(f"{config}/*.parquet"))
        reason = f"the mirror has no such file (of {config!r} it has: {', '.join(found) or 'none'})"
        remedy = (
            "complete the mirror (hf download --repo-type dataset), or give paths.mirror=null to use the hub"
        )
        raise DataError(Problem(wanted, None, reason, remedy))
    _refuse_missing_shards(files)
    return files


def _refuse_missing_shards(files: Iterable[Path]) -> None:
    for file in files:
        match = _SHARD.search(file.name)
        if match is None:
            continue
        for number in range(int(match[2])):
            shard = file.with_name(_SHARD.sub(f"-{number:05d}-of-{match[2]}.parquet", file.name))
            if not shard.exists():
                raise DataError(Problem(str(shard), None, "the mirror lacks this part of the split"))


def _split_patterns(folder: Path, config: str, split: str) -> list[str]:
    """Globs of the split's files: as the README's header says, or the hub's usual layout."""
    for entry in _readme_configs(folder):
        if str(entry.get("config_name")) != config:
            continue
        for files in entry.get("data_files") or []:
            if isinstance(files, Mapping) and files.get("split") == split:
                paths = files["path"]
                return [paths] if isinstance(paths, str) else list(paths)
    return [f"{config}/{split}-*.parquet"]


def _readme_configs(folder: Path) -> list[dict[str, Any]]:
    import yaml

    readme = folder / "README.md"
    parts = readme.read_text(encoding="utf-8").split("---\n", 2) if readme.exists() else []
    try:
        header = yaml.safe_load(parts[1]) if len(parts) == 3 else {}
        return list((header or {}).get("configs") or [])
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        reason = f"its header cannot be read ({error})"
        raise DataError(Problem(str(readme), None, reason, "download it again")) from error


def checked_model(folder: Path, sha256: Mapping[str, str]) -> Path:
    """``folder`` itself, once its configuration, weights and checksums have been found whole.

    Raises:
        ModelError: a file is missing, truncated, or has another SHA-256; it is named.
    """
    _refuse_incomplete(folder)
    for name, expected in sha256.items():
        found = _sha256(folder / name)
        if found != expected.lower():
            reason = f"has the SHA-256 {found}, not the expected {expected}"
            remedy = "the file is damaged or another version: install or download it again"
            raise ModelError(Problem(str(folder / name), None, reason, remedy))
    return folder


def _refuse_incomplete(folder: Path) -> None:
    remedy = "download or install it again"
    if not (folder / "config.json").is_file():
        raise ModelError(Problem(str(folder / "config.json"), None, "there is no such file", remedy))
    weights = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    if not weights:
        reason = "there are no weights here (*.safetensors or pytorch_model*.bin)"
        raise ModelError(Problem(str(folder), None, reason, remedy))
    for file in weights:
        if file.suffix == ".safetensors":
            _refuse_truncated(file, remedy)


def _refuse_truncated(file: Path, remedy: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):  # checks the header against the file's size
            return
    except (SafetensorError, OSError) as error:
        reason = f"is not a whole safetensors file ({error})"
        raise ModelError(Problem(str(file), None, reason, remedy)) from error


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(Problem(str(file), None, f"cannot be read ({error})")) from error
