"""Imports point downward: the layers of docs/architecture.md, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "spacesfs").rglob("*.py"))

GROUND = {"metrics", "tasks", "logs"}  # import nothing of ours, and anyone may use them
BELOW_TREE = GROUND | {"cache", "client", "errors", "attributes"}
BELOW_FILESYSTEM = BELOW_TREE | {"tree", "content", "pending"}
FILESYSTEM = {"properties", "openfiles", "localview", "namespace", "xattrs", "filesystem"}
BELOW_FUSE = BELOW_FILESYSTEM | FILESYSTEM | {"assembly", "config", "access", "start", "standing", "usage"}
EVERYTHING = BELOW_FUSE | {"unmounted", "fuse", "cli"}
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": EVERYTHING,
    **{module: set() for module in GROUND},
    "client": {"tasks"},
    "errors": {"client"},
    "attributes": {"client"},
    "cache": GROUND | {"client", "errors"},
    "tree": BELOW_TREE,
    "content": BELOW_TREE,
    "pending": BELOW_TREE | {"content"},
    "properties": BELOW_FILESYSTEM | {"openfiles"},
    "openfiles": BELOW_FILESYSTEM,
    "localview": BELOW_FILESYSTEM | {"openfiles"},
    "namespace": BELOW_FILESYSTEM | {"properties", "openfiles"},
    "xattrs": BELOW_FILESYSTEM | {"properties", "openfiles"},
    "filesystem": BELOW_FILESYSTEM | FILESYSTEM,
    "assembly": BELOW_FILESYSTEM | FILESYSTEM,
    "usage": {"client"},
    "access": BELOW_TREE | {"config"},
    "start": BELOW_FILESYSTEM | FILESYSTEM | {"assembly", "config", "access"},
    "standing": BELOW_FILESYSTEM | {"access", "config", "start"},
    "unmounted": BELOW_FUSE,
    "fuse": BELOW_FUSE,
    "config": EVERYTHING,
    "cli": EVERYTHING,
}


def layer_of(module: Path) -> str:
    """Return the first name below ``spacesfs``: a package, or a module at the top."""
    return module.parts[1].removesuffix(".py")


def imports_of(module: Path) -> Iterator[str]:
    """Return the dotted name of every import in a module; a relative one starts with a dot."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_downward(module: Path) -> None:
    layer = layer_of(module)
    imported = {name.split(".")[1] for name in imports_of(module) if name.startswith("spacesfs.")}
    allowed = MAY_IMPORT[layer] | {layer, "__version__"}
    assert imported <= allowed, f"{module} may not import {imported - allowed}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_are_absolute(module: Path) -> None:
    assert not [name for name in imports_of(module) if name.startswith(".")]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_the_kernel_side_knows_pyfuse3(module: Path) -> None:
    roots = {name.split(".")[0] for name in imports_of(module)}
    assert "pyfuse3" not in roots or layer_of(module) == "fuse"


def test_the_table_names_layers_that_exist() -> None:
    layers = {layer_of(module) for module in MODULES}
    assert layers <= MAY_IMPORT.keys()
    assert {"client", "content", "fuse", "tree"} <= layers
