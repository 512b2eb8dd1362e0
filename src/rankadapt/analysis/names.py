"""Reading module paths: which block, which kind of projection."""

from __future__ import annotations

import re


def layer_and_role(path: str) -> tuple[int, str]:
    """``bert.encoder.layer.3.attention.self.query`` -> (3, "attention.self.query").

    A path without a number is block 0 of its own kind.
    """
    found = re.search(r"\.(\d+)\.", path)
    if found is None:
        return 0, path
    return int(found.group(1)), path[found.end() :]
