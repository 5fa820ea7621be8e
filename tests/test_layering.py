"""Imports point one way only, and the light parts stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "scar_ray"

MAY_IMPORT = {
    "games": set(),
    "objectives": set(),
    "records": {"games"},
    "text": {"games", "records"},
    "credit": {"games", "records", "text"},
    "analysis": {"games", "records", "text", "credit", "config", "tasks", "report", "scoring", "parsing", "trainer"},
    "parsing": {"games", "records", "text"},
    "config": {"games", "objectives", "records", "text", "credit", "parsing"},
    "planning": {"games", "records", "text", "credit", "config"},
    "tasks": {"records", "text", "config"},
    # Retrievers and the reward that they give.
    "search": {"records", "text", "config", "tasks", "scoring"},
    "report": set(),
    # Files of responses, and a language model that compares them.
    "judge": {"config", "report"},
    # What a trainer needs of its workers; both sides are written against it.
    "protocols": {"records", "config"},
    "workers": {"games", "objectives", "records", "text", "credit", "config", "tasks", "protocols", "scoring"},
    # Reward models as values of partial texts: torch and transformers, no Ray.
    "scoring": {"games", "records", "text", "config"},
    "trainer": {
        "games",
        "objectives",
        "records",
        "text",
        "credit",
        "config",
        "tasks",
        "protocols",
        "scoring",
        "workers",
    },
}
"""Layer -> layers of scar_ray that it may import, besides itself. The modules at the top (cli, run) may import all."""

THIRD_PARTY = {
    "games": {"numpy"},
    "objectives": {"numpy", "torch"},
    "records": {"numpy"},
    "text": {"numpy"},
    "credit": {"numpy"},
    "report": {"numpy"},
    "protocols": {"numpy"},
    "planning": {"numpy"},
}
"""Layer -> packages from outside that it may import, where that is limited."""

HEAVY = ("ray", "vllm", "deepspeed", "transformers", "torch")


def layer_of(module: str) -> str:
    """The layer of a module name such as scar_ray.text.units; "" for the package itself and the top modules."""
    if module.startswith("scar_ray.trainer.protocols"):
        return "protocols"
    part = [*module.split("."), ""][1]
    return part if part in MAY_IMPORT else ""


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported_modules(path: Path) -> list[tuple[int, str]]:
    """Line and name of every module that a file imports, inside functions too."""
    tree = ast.parse(path.read_text(), filename=str(path))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            found.append((node.lineno, node.module))
            if node.module.split(".")[0] == "scar_ray":  # `from scar_ray import workers`
                found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if layer_of(module_of(path)))


@pytest.mark.parametrize("path", FILES, ids=[module_of(path) for path in FILES])
def test_a_module_imports_only_layers_below_its_own(path):
    layer = layer_of(module_of(path))
    for line, name in imported_modules(path):
        if name.startswith("scar_ray."):
            below = layer_of(name) in {layer, *MAY_IMPORT[layer]}
            assert below, f"{path}:{line}: {layer} must not import {name}"


LIGHT = [path for path in FILES if layer_of(module_of(path)) in THIRD_PARTY]


@pytest.mark.parametrize("path", LIGHT, ids=[module_of(path) for path in LIGHT])
def test_the_pure_layers_import_nothing_heavy(path):
    layer = layer_of(module_of(path))
    allowed = {*sys.stdlib_module_names, "scar_ray", *THIRD_PARTY[layer]}
    for line, name in imported_modules(path):
        assert name.split(".")[0] in allowed, f"{path}:{line}: {layer} must not import {name}"


def test_only_workers_import_vllm_and_deepspeed():
    for path in sorted(PACKAGE.rglob("*.py")):
        if layer_of(module_of(path)) != "workers":
            for line, name in imported_modules(path):
                assert name.split(".")[0] not in ("vllm", "deepspeed"), f"{path}:{line} imports {name}"


@pytest.mark.parametrize(
    "module", ["scar_ray.games", "scar_ray.text.units", "scar_ray.credit", "scar_ray.scoring.measured"]
)
def test_importing_what_is_light_loads_none_of_the_heavy_packages(module):
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


def test_every_layer_has_modules_to_check():
    assert {layer_of(module_of(path)) for path in FILES} == set(MAY_IMPORT)
