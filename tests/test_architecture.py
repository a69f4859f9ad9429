"""The house as its plan says: which room may know which, how full a room may be, and one meaning a name.

Reads the sources with `ast` and runs none of them. Imports inside functions count, too: they are lazy so that a program
starts quickly, not so that rooms may know more. See `docs/architecture.md` for what each room is for.
"""

import ast
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("api", "benchmarks", "checkpoints", "finetune", "generator", "model", "scripts")
MOST_MODULES = 14

_GENERATOR = ("generator", "generator/formulas", "generator/functions", "generator/corpus")
_MODEL = ("model", "model/weights", "model/pretraining", "model/publishing")
_FINETUNE = (
    "finetune",
    "finetune/files",
    "finetune/tables",
    "finetune/search",
    "finetune/subtrees",
    "finetune/sparse",
    "finetune/routing",
    "finetune/growing",
    "finetune/groups",
    "finetune/diagnostics",
    "finetune/law",
    "finetune/fitting",
)
ARROWS: dict[str, tuple[str, ...]] = {
    "api": (*_FINETUNE, *_MODEL, *_GENERATOR),
    "scripts": (
        "benchmarks",
        "benchmarks/basin",
        "benchmarks/laws",
        "benchmarks/trees",
        *_FINETUNE,
        *_MODEL,
        *_GENERATOR,
    ),
    "benchmarks": ("finetune", "finetune/routing", "model", "model/pretraining", *_GENERATOR),
    "benchmarks/basin": ("benchmarks", "benchmarks/trees", *_FINETUNE, *_MODEL, *_GENERATOR),
    "benchmarks/laws": ("benchmarks", *_FINETUNE, *_MODEL, *_GENERATOR),
    "benchmarks/trees": ("benchmarks", *_FINETUNE, *_MODEL, *_GENERATOR),
    "finetune/files": ("finetune", "finetune/tables", "finetune/groups", "finetune/law", "generator"),
    "finetune/tables": ("finetune", "generator"),
    "finetune": (
        "finetune/groups",
        "finetune/diagnostics",
        "finetune/sparse",
        "finetune/search",
        "finetune/law",
        "finetune/fitting",
        "model",
        "generator",
        "generator/functions",
    ),
    "finetune/search": (
        "finetune/growing",
        "finetune/subtrees",
        "finetune/sparse",
        "finetune/routing",
        "finetune/fitting",
        "model",
        "generator",
        "generator/formulas",
        "generator/functions",
    ),
    "finetune/subtrees": ("model", "generator", "generator/functions"),
    "finetune/groups": ("finetune/law", "finetune/fitting", "generator", "generator/formulas"),
    "finetune/diagnostics": ("finetune/law", "finetune/fitting", "generator"),
    "finetune/law": ("finetune/fitting", "generator", "generator/formulas"),
    "finetune/sparse": ("generator", "generator/formulas"),
    "finetune/routing": ("generator",),
    "finetune/growing": ("finetune/fitting", "generator"),
    "finetune/fitting": ("generator",),
    "model/publishing": ("model/pretraining", "model", "model/weights", "generator", "generator/corpus"),
    "model/pretraining": ("model", "model/weights", "generator", "generator/corpus"),
    "model": ("model/weights", "generator"),
    "model/weights": ("checkpoints", "generator"),
    "generator/corpus": ("generator/formulas", "generator/functions", "generator"),
    "generator/functions": ("generator",),
    "generator/formulas": ("generator",),
    "generator": (),
    "checkpoints": (),
}
"""Room -> the rooms that it may know; a room is a folder."""

FACES = {
    "api": "what users import, lazily",
    "finetune": "an import path of the README, lazily",
    "model": "an import path of the README",
    "checkpoints": "where the shipped weights are",
}
"""Folders whose `__init__` holds more than a docstring, and why."""
ENTRY_POINTS = {"parse", "main"}
"""Names that every script may define."""


@cache
def _modules() -> dict[str, Path]:
    """Import name -> file of every module of the packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(("emlinit", *(parts if parts != ("api",) else ())))] = path
    return found


def _room(path: Path) -> str:
    return path.parent.relative_to(ROOT).as_posix()


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere in it."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in _modules() else str(node.module)


def _arrows() -> dict[tuple[str, str], list[str]]:
    """(room, room that it knows) -> the modules that do."""
    arrows = defaultdict(list)
    for name, path in _modules().items():
        for target in _imports(path):
            if target in _modules() and _room(path) != _room(_modules()[target]):
                arrows[_room(path), _room(_modules()[target])].append(f"{name} -> {target}")
    return arrows


def test_no_room_is_too_full() -> None:
    counts = defaultdict(int)
    for path in _modules().values():
        counts[_room(path)] += path.name != "__init__.py"
    assert {room: n for room, n in counts.items() if n > MOST_MODULES} == {}


def test_rooms_know_only_what_the_plan_allows() -> None:
    assert {_room(path) for path in _modules().values()} == set(ARROWS)
    wrong = {arrow: why for arrow, why in _arrows().items() if arrow[1] not in ARROWS[arrow[0]]}
    assert wrong == {}


def test_the_plan_has_no_circle() -> None:
    above: dict[str, int] = {}

    def floor(room: str, path: tuple[str, ...] = ()) -> int:
        assert room not in path, f"a circle: {' -> '.join((*path, room))}"
        if room not in above:
            above[room] = 1 + max((floor(other, (*path, room)) for other in ARROWS[room]), default=0)
        return above[room]

    for room in ARROWS:
        floor(room)


def test_modules_of_a_room_make_no_circle() -> None:
    edges = {
        name: {target for target in _imports(path) if target in _modules() and target != name}
        for name, path in _modules().items()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path, name))}"
        if name not in done:
            for target in edges.get(name, ()):
                visit(target, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_nothing_imports_the_scripts_or_the_tests() -> None:
    for name, path in _modules().items():
        for target in _imports(path):
            assert target.partition(".")[0] not in ("tests", "hub_server", "conftest"), name
            if not name.startswith("emlinit.scripts"):
                assert not target.startswith("emlinit.scripts"), name


def test_rooms_are_named_only_as_parts_of_the_package() -> None:
    """`from generator.grammar import ...` works in the root of the checkout and nowhere else."""
    for name, path in _modules().items():
        for target in _imports(path):
            assert target.partition(".")[0] not in PACKAGES, f"{name} -> {target}"


def test_searches_know_of_the_model_only_what_it_proposes() -> None:
    """They take any sampler: `model.propose` holds the record that one returns."""
    known = {
        target
        for path in _modules().values()
        for target in _imports(path)
        if _room(path) in ("finetune/search", "finetune/subtrees") and target.startswith("emlinit.model")
    }
    assert known == {"emlinit.model.propose"}


def test_every_module_is_used() -> None:
    """Entry points aside, a module that no other one imports is dead."""
    used = {target for path in _modules().values() for target in _imports(path)}
    unused = {
        name
        for name, path in _modules().items()
        if path.name != "__init__.py" and name not in used and not name.startswith("emlinit.scripts.")
    }
    assert unused == set()


def _public_names(path: Path) -> Iterator[str]:
    for node in _tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_no_public_name_is_defined_twice() -> None:
    homes = defaultdict(list)
    for name, path in _modules().items():
        for defined in set(_public_names(path)):
            if not defined.startswith("_") and not (name.startswith("emlinit.scripts.") and defined in ENTRY_POINTS):
                homes[defined].append(name)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_only_faces_hold_more_than_a_docstring() -> None:
    for path in _modules().values():
        if path.name == "__init__.py":
            assert ast.get_docstring(_tree(path)), f"{path} says nothing"
            if _room(path) not in FACES:
                assert len(_tree(path).body) == 1, f"{path} holds more than a docstring"


def test_tests_mirror_the_packages() -> None:
    """A test of one module stands where the module stands; those of several are named here, or are of odd inputs."""
    of_several = {
        "tests/finetune/test_measured.py",
        "tests/finetune/test_robustness.py",
        "tests/scripts/test_gpu_session.py",  # of a shell script
        "tests/finetune/sparse/test_pursuit_oracle.py",
        "tests/scripts/test_solve_bad_input.py",
    }
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        relative = path.relative_to(ROOT)
        if len(relative.parts) == 2 or relative.parts[1] == "odd_inputs" or relative.as_posix() in of_several:
            continue
        module = ROOT / Path(*relative.parts[1:-1]) / relative.name.removeprefix("test_")
        assert module.is_file(), f"{relative} tests no module {module.relative_to(ROOT)}"


def test_the_list_of_packages_is_that_of_the_folders() -> None:
    """A forgotten one would be missing in a wheel, while an editable install works."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {_room(path) for path in _modules().values() if path.name == "__init__.py"}
    assert sorted(listed) == sorted({"emlinit", *("emlinit." + room.replace("/", ".") for room in folders - {"api"})})
    assert folders == {_room(path) for path in _modules().values()}, "a folder without __init__.py"
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(PACKAGES)


@pytest.mark.parametrize(
    "module", ["emlinit", "emlinit.finetune.tables.read_table", "emlinit.scripts.cli", "emlinit.scripts.solve"]
)
def test_what_starts_quickly_loads_neither_torch_nor_sympy(module: str) -> None:
    slow = ("torch", "sympy", "sklearn", "matplotlib")
    code = f"import sys, {module}; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
