"""Policies of the code base, checked on its source: allowed imports and forbidden content.

`LAYERS` is listed from the bottom up. A module imports from its own layer or from lower ones,
without cycles. Imports under `TYPE_CHECKING` do not happen at run time and do not count.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = ("saarthi_lib", "components", "pipelines", "predictors", "deployment")

LAYERS = (
    ("__init__", "errors", "json_text", "logs", "text"),
    ("tasks", "storage", "addresses"),
    ("lineage", "layout", "demo", "data.cloud"),
    ("models", "data", "bundle", "recipe", "settings", "config"),
    ("inference", "bundle.publishing", "bundle.registration"),
    ("export", "evaluation", "predictors", "deployment"),
    ("training", "reports"),
    ("distillation",),
    ("steps",),
    ("components", "runs"),
    ("sweep",),
    ("pipelines", "cli"),
)
LAYER_OF = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}

# The light part is all of `saarthi_lib` that a service needs.
LIGHT = {"__init__", "errors", "json_text", "logs", "text", "tasks", "storage", "bundle"}
LIGHT |= {"inference", "layout", "addresses", "data.cloud"}
LIGHT_MAY = {"numpy", "tokenizers", "torch", "onnxruntime", "cryptography", "saarthi_lib"}


@dataclass(frozen=True)
class Import:
    """Target of an import statement, as a dotted name, with its line and whether in a function."""

    target: str
    line: int
    in_function: bool

    @property
    def package(self) -> str:
        return self.target.partition(".")[0]


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    imports: tuple[Import, ...]

    @property
    def room(self) -> str:
        return room_of(self.name)

    def says(self, found: Import) -> str:
        return f"{self.path.relative_to(ROOT)}:{found.line} imports {found.target}"


def room_of(name: str) -> str:
    """`saarthi_lib.data.read` is in `data`, `pipelines.run` in `pipelines`.

    A module that `LAYERS` names, such as `bundle.publishing`, is a room of its own.
    """
    top, *rest = name.split(".")
    if top != "saarthi_lib":
        return top
    module = ".".join(rest[:2])
    return module if module in LAYER_OF else rest[0] if rest else "__init__"


def read_imports(node: ast.AST, package: str, in_function: bool = False) -> Iterator[Import]:
    """All imports below a node, with relative ones resolved against the package."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import():
                for alias in child.names:
                    yield Import(alias.name, child.lineno, in_function)
            case ast.ImportFrom():
                parents = package.split(".")[: len(package.split(".")) - child.level + 1]
                base = ".".join(parents) if child.level else ""
                source = ".".join(part for part in (base, child.module) if part)
                for alias in child.names:
                    yield Import(f"{source}.{alias.name}", child.lineno, in_function)
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for statement in child.orelse:
                    yield from read_imports(ast.Module([statement], []), package, in_function)
            case _:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from read_imports(child, package, in_function or inside)


def read_module(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    package = ".".join(parts[:-1])
    name = package if parts[-1] == "__init__" else ".".join(parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return Module(name, path, tuple(read_imports(tree, package)))


MODULES = [read_module(path) for top in TOP for path in sorted((ROOT / top).rglob("*.py"))]
NAMES = {module.name for module in MODULES}


def own_module(target: str) -> str | None:
    """The module of this project that an import reaches, or None for other packages."""
    while target and target not in NAMES:
        target = target.rpartition(".")[0]
    return target or None


def found_in(rooms: set[str], packages: set[str], *, top_only: bool = False) -> list[str]:
    """Imports of the packages anywhere in the rooms (or only outside functions)."""
    return [
        module.says(found)
        for module in MODULES
        if module.room in rooms
        for found in module.imports
        if found.package in packages and not (top_only and found.in_function)
    ]


PLATFORMS = {"components", "pipelines", "predictors", "deployment"}
LIBRARY = set(LAYER_OF) - PLATFORMS


def test_the_reader_sees_every_kind_of_import():
    source = """
import os.path as p
from typing import TYPE_CHECKING
from . import near
from ..far import thing
if TYPE_CHECKING:
    import only_for_types
else:
    import otherwise
class C:
    def method(self):
        try:
            import torch
        finally:
            pass
"""
    found = read_imports(ast.parse(source), "saarthi_lib.data")
    assert [(each.target, each.in_function) for each in found] == [
        ("os.path", False),
        ("typing.TYPE_CHECKING", False),
        ("saarthi_lib.data.near", False),
        ("saarthi_lib.far.thing", False),
        ("otherwise", False),
        ("torch", True),
    ]


def test_every_module_has_a_layer():
    assert {module.name for module in MODULES if module.room not in LAYER_OF} == set()


def test_no_import_runs_up():
    assert [
        module.says(found)
        for module in MODULES
        for found in module.imports
        if (reached := own_module(found.target))
        and LAYER_OF[room_of(reached)] > LAYER_OF[module.room]
    ] == []


def test_there_is_no_circle():
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        reached = {own_module(found.target) for found in module.imports}
        graph[module.name] = {name for name in reached if name and name != module.name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " → ".join(reversed(error.args[1])))


def test_the_light_part_stays_light():
    allowed = LIGHT_MAY | set(sys.stdlib_module_names)
    assert [
        module.says(found)
        for module in MODULES
        if module.room in LIGHT
        for found in module.imports
        if found.package not in allowed
        # Clients of storage are loaded when an address needs them.
        and not (module.room == "data.cloud" and found.in_function)
    ] == []


def test_the_library_knows_no_platform():
    assert found_in(LIBRARY, {"kfp", "kserve", "kserve_storage", "kubernetes"}) == []
    assert found_in(LIBRARY - {"cli"}, PLATFORMS) == []
    # Platforms define their own commands, which import their dependencies when they run.
    assert found_in({"cli"}, PLATFORMS - {"deployment"}, top_only=True) == []


def test_components_import_the_library_in_the_body_only():
    # The package itself is cheap to import and has the version, which is the images' tag.
    allowed = {"kfp", "components"} | set(sys.stdlib_module_names)
    assert [
        module.says(found)
        for module in MODULES
        if module.room == "components"
        for found in module.imports
        if not found.in_function
        and found.package not in allowed
        and found.target != "saarthi_lib.__version__"
    ] == []
    assert found_in({"components"}, {"pipelines", "predictors"}) == []


def test_pipelines_do_not_import_torch():
    assert found_in({"pipelines"}, {"torch"}) == []


def test_deployment_knows_the_cluster_and_published_bundles_only():
    assert [
        module.says(found)
        for module in MODULES
        if module.room == "deployment"
        for found in module.imports
        if (reached := own_module(found.target))
        and room_of(reached) not in {"deployment", "errors", "addresses"}
        and not (room_of(reached) == "bundle.publishing" and found.in_function)
    ] == []


def test_predictors_import_only_the_light_part():
    assert found_in({"predictors"}, {"kfp", "lightning", "transformers", "components"}) == []
    assert [
        module.says(found)
        for module in MODULES
        if module.room == "predictors"
        for found in module.imports
        if (reached := own_module(found.target)) and room_of(reached) not in LIGHT | {"predictors"}
    ] == []


def test_nothing_is_unpickled_and_nothing_is_printed():
    assert found_in(set(LAYER_OF), {"pickle", "cloudpickle", "dill", "joblib"}) == []
    assert [
        f"{module.path.relative_to(ROOT)}:{node.lineno} prints; log it, or use rich in the CLI"
        for module in MODULES
        for node in ast.walk(ast.parse(module.path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ] == []


HEAVY = {
    "captum", "kfp", "kserve", "kubernetes", "lightning", "matplotlib", "onnxruntime", "pandas",
    "pyarrow", "torch", "torchmetrics", "transformers",
}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("saarthi_lib", HEAVY | {"numpy", "pydantic", "tokenizers", "yaml"}),
        ("saarthi_lib.inference.predictor", HEAVY),
        ("deployment.commands", HEAVY | {"numpy", "prometheus_client", "yaml"}),
    ],
)
def test_importing_it_brings_in_nothing_heavy(module: str, never: set[str]):
    script = f"import sys, {module}; sys.stdout.write(' '.join(sys.modules))"
    fresh = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert {name.partition(".")[0] for name in fresh.stdout.split()} & never == set()


def test_no_large_file_is_tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, nothing is tracked")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert [str(path) for path in paths if path.is_file() and path.stat().st_size > 2**20] == []
