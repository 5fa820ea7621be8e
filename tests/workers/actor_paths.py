"""How actors of tests find the modules of the tests."""

from __future__ import annotations

import os
from pathlib import Path


def importing_from(*folders: Path) -> dict[str, str]:
    """Environment of an actor that also imports from these folders."""
    return {"PYTHONPATH": os.pathsep.join([*map(str, folders), os.environ["PYTHONPATH"]])}
