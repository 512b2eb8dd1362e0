"""The Hugging Face hub, with a short patience: what it has, or :class:`Unavailable` in seconds.

The hub's clients retry for about 25 seconds per file when there is no network; one probe decides
first, and without a network only the local cache is asked.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rankadapt.rows import Rows, TableRows

PROBE_SECONDS = 4.0


class Unavailable(Exception):
    """The hub cannot be reached, or does not have what was asked for; the message says which."""


def dataset(repo: str, config: str, split: str, where: str) -> Rows:
    """One split from the hub or from its local cache, mapped into memory.

    Raises:
        Unavailable: no network and not cached, or unknown to the hub.
    """
    import datasets

    try:
        if reachable():
            found = _loaded(repo, config, split)
        else:
            with _offline():
                found = _loaded(repo, config, split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise Unavailable(_reason(error)) from error
    names = {name: f.names for name, f in found.features.items() if isinstance(f, datasets.ClassLabel)}
    return TableRows(found.data.table, where, names)


def _loaded(repo: str, config: str, split: str) -> Any:
    import datasets

    try:
        return datasets.load_dataset(repo, config, split=split)
    except ValueError as error:
        if "BuilderConfig" not in str(error):
            raise
        return datasets.load_dataset(repo, data_dir=config, split=split)  # its folders are no configurations


def model(repo: str) -> str | Path:
    """``repo`` itself where the hub answers for it, else its folder in the local cache.

    Raises:
        Unavailable: no network and not cached, unknown to the hub, or not open to this user.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        if reachable():
            hf_hub_download(repo, "config.json", etag_timeout=PROBE_SECONDS)
            return repo
        return Path(snapshot_download(repo, local_files_only=True))
    except (OSError, ValueError) as error:  # HfHubHTTPError is an OSError, a bad name a ValueError
        raise Unavailable(_reason(error)) from error


def reachable() -> bool:
    """Whether the hub answers within seconds; ``False`` at once under ``HF_HUB_OFFLINE=1``."""
    from huggingface_hub import constants

    return not constants.is_offline_mode() and _probe(constants.ENDPOINT)


@functools.cache
def _probe(endpoint: str) -> bool:
    """Asks in a thread: the look-up of a host name knows no time limit."""
    answered = threading.Event()
    thread = threading.Thread(target=_ask, args=(endpoint, answered), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS + 1)
    return answered.is_set()


def _ask(endpoint: str, answered: threading.Event) -> None:
    from huggingface_hub import get_session

    # Whatever goes wrong means "no": which HTTP library raises it depends on the hub's version.
    with suppress(Exception):
        get_session().head(endpoint, timeout=PROBE_SECONDS)
        answered.set()


@contextmanager
def _offline() -> Iterator[None]:
    """The clients' offline mode for a while: they read it from the environment at import only."""
    from datasets import config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before


def _reason(error: Exception) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
    return first if reachable() else "which cannot be reached, and its local cache lacks it"
