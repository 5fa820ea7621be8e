"""Python functions that the user names in the configuration."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any


def load_callable(key: str, path: str) -> Callable[..., Any]:
    """The function or class at `package.module:name` or `path/to/file.py:name`, which `key` is set to.

    ValueError, naming the key and saying why, when it cannot be had.
    """
    where, _, name = path.rpartition(":")
    try:
        module = _module(where)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise ValueError(
            f"{key}={path} cannot be imported ({type(error).__name__}: {error}); see to the module"
        ) from error
    found: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(found):
        near = get_close_matches(name, [one for one, value in vars(module).items() if callable(value)], n=1)
        raise ValueError(
            f"{key}={path}: {where} has no function {name}" + (f"; did you mean {near[0]}?" if near else "")
        )
    return found


def _module(where: str) -> ModuleType:
    """The module of a dotted name, also of this folder, or of a file, which can import its neighbours."""
    file = Path(where).expanduser()
    folder = str(file.resolve().parent if where.endswith(".py") else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    if not where.endswith(".py"):
        return importlib.import_module(where)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
