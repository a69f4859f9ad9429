"""The house: which folder may name which, and what else holds for all modules.

Everything is read off the source with `ast`. An arrow is any import of one module by another: at the top, inside a function,
or for the type checker alone, since a reader follows all three in the same way.
"""

import ast
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOUSES = ("api", "benchmarks", "checkpoints", "finetune", "generator", "model", "scripts")

GENERATOR = ("generator", "generator/functions", "generator/formulas")
"""What laws are made of: everybody may name it. The corpus is for pretraining and for benchmarks."""

ARROWS: dict[str, tuple[str, ...]] = {
    "checkpoints": (),
    # The generator: formulas and functions are made of its grammar, programs and evaluator, the corpus of all of these.
    "generator": (),
    "generator/functions": ("generator",),
    "generator/formulas": ("generator",),
    "generator/corpus": GENERATOR,
    # The model.
    "model/weights": ("generator", "checkpoints"),
    "model": ("generator", "model/weights"),
    "model/pretraining": ("generator", "generator/corpus", "model", "model/weights"),
    "model/publishing": ("generator", "generator/corpus", "model", "model/weights", "model/pretraining"),
    # From proposals to a law: four rooms that know only the generator, the searches that use them, the solver.
    "finetune/fitting": GENERATOR,
    "finetune/routing": GENERATOR,
    "finetune/sparse": GENERATOR,
    "finetune/law": GENERATOR,
    "finetune/subtrees": (*GENERATOR, "model"),
    "finetune/search": (
        *GENERATOR,
        "model",
        "finetune/fitting",
        "finetune/routing",
        "finetune/sparse",
        "finetune/subtrees",
    ),
    "finetune": (*GENERATOR, "model", "finetune/fitting", "finetune/law", "finetune/search"),
    "finetune/files": ("generator", "finetune", "finetune/law"),
    # How good it is: benchmarks may name everything but the scripts, and of one another the priors and the suites of trees.
    "benchmarks": ("generator*", "model*", "finetune*"),
    "benchmarks/trees": ("generator*", "model*", "finetune*", "benchmarks"),
    "benchmarks/laws": ("generator*", "model*", "finetune*", "benchmarks"),
    "benchmarks/basin": ("generator*", "model*", "finetune*", "benchmarks", "benchmarks/trees"),
    # The entrances: scripts say what is to be done, the face says what there is.
    "scripts": ("generator*", "model*", "finetune*", "benchmarks*"),
    "api": ("generator", "model", "finetune", "finetune/law"),
}
"""Folder to the folders that its modules may name; `model*` is the folder and all below it. Its own folder it always may."""

MOST_MODULES = 14
"""In a folder, without its `__init__`: more cannot be read at a glance, and are two ideas."""

FACES = {
    "api": "the public names, loaded on first use",
    "finetune": "emlinit.finetune.EMLRegressor, a name that has been published",
    "model": "emlinit.model.EMLInitialiser, a name that has been published",
    "checkpoints": "where the shipped weights lie",
}
"""The `__init__` files that say more than a docstring, and why."""


def module_name(path: Path) -> str:
    """Import name of a source file."""
    house, *rest = path.relative_to(ROOT).with_suffix("").parts
    parts = ["emlinit", *([] if house == "api" else [house]), *rest]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for house in HOUSES for path in sorted((ROOT / house).rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in PATHS.items()}


def room(module: str) -> str:
    """Folder of a module."""
    return PATHS[module].parent.relative_to(ROOT).as_posix()


ROOMS = sorted({room(module) for module in PATHS})


def named(module: str) -> Iterator[tuple[str, int]]:
    """Modules of the package that a module imports anywhere, and the line."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{PATHS[module]}:{node.lineno}: a relative import: write emlinit...."
            wholes = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [whole if whole in PATHS else str(node.module) for whole in wholes]
        else:
            continue
        for name in found:
            if name.split(".")[0] == "emlinit":
                assert name in PATHS, f"{PATHS[module]}:{node.lineno}: there is no module {name}"
                yield name, node.lineno


IMPORTS = {module: list(named(module)) for module in PATHS}


def may_name(folder: str) -> set[str]:
    """The folders of a row of the table."""
    allowed = {folder}
    for entry in ARROWS[folder]:
        whole = entry.removesuffix("*")
        allowed |= {other for other in ROOMS if other == whole or (entry != whole and other.startswith(f"{whole}/"))}
    return allowed


def definitions(module: str) -> set[str]:
    """Public names that a module defines at its top level by def, class or assignment."""
    names: set[str] = set()
    left: list[ast.AST] = list(TREES[module].body)
    while left:
        statement = left.pop()
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names |= {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        elif isinstance(statement, ast.If | ast.Try | ast.ExceptHandler | ast.With):
            left += ast.iter_child_nodes(statement)
    return {name for name in names if not name.startswith("_")}


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """A circle of arrows, if there is one."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def test_the_packages_of_the_wheel_are_the_folders_of_the_checkout() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert settings["packages"] == sorted(module_name(ROOT / folder / "__init__.py") for folder in ROOMS)
    assert settings["package-dir"] == {module_name(ROOT / house / "__init__.py"): house for house in HOUSES}
    assert sorted(path.parent.name for path in ROOT.glob("*/__init__.py")) == sorted(HOUSES)
    assert [folder for folder in ROOMS if not (ROOT / folder / "__init__.py").is_file()] == []


def test_no_folder_holds_more_modules_than_one_sees_at_a_glance() -> None:
    sizes = Counter(room(module) for module, path in PATHS.items() if path.name != "__init__.py")
    assert {folder: size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def test_every_folder_has_its_row_in_the_table() -> None:
    assert sorted(ARROWS) == ROOMS
    entries = {entry.removesuffix("*") for row in ARROWS.values() for entry in row}
    assert entries <= set(ROOMS)


def test_the_table_has_no_circle() -> None:
    assert circle({folder: may_name(folder) - {folder} for folder in ARROWS}) == []


def test_no_arrow_points_up() -> None:
    wrong = [
        f"{PATHS[module].relative_to(ROOT)}:{line} names {name}"
        for module, imports in IMPORTS.items()
        for name, line in imports
        if room(name) not in may_name(room(module))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_circle_of_modules() -> None:
    assert circle({module: {name for name, _ in imports} for module, imports in IMPORTS.items()}) == []


def test_searches_know_of_the_model_only_what_it_proposes() -> None:
    """They take any sampler: `model.propose` holds the record that one returns."""
    known = {
        name
        for module, imports in IMPORTS.items()
        for name, _ in imports
        if room(module) in ("finetune/search", "finetune/subtrees") and room(name) == "model"
    }
    assert known == {"emlinit.model.propose"}


def test_houses_are_named_only_as_parts_of_the_package() -> None:
    """`from generator.grammar import ...` would work in the checkout and nowhere else; tests are nowhere else at all."""
    outside = {*HOUSES, "tests", "conftest", "hub_server"}
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & outside, f"{PATHS[module]}:{node.lineno}"


def test_a_public_name_is_defined_once() -> None:
    """One name, one meaning. Each script has a `main` and a `parse`."""
    places = defaultdict(list)
    for module in PATHS:
        for name in definitions(module) - ({"main", "parse"} if room(module) == "scripts" else set()):
            places[name].append(module)
    twice = [f"{name}: {', '.join(modules)}" for name, modules in sorted(places.items()) if len(modules) > 1]
    assert not twice, "\n".join(twice)


def test_every_module_is_named_by_another_or_is_an_entrance() -> None:
    living = {name for module, imports in IMPORTS.items() for name, _ in imports if name != module}
    dead = {module for module, path in PATHS.items() if path.name != "__init__.py"} - living
    entrances = {module for module in dead if room(module) == "scripts" and "main" in definitions(module)}
    assert not dead - entrances, ", ".join(sorted(dead - entrances))


def test_an_init_holds_its_docstring_and_nothing_else() -> None:
    """Reading a table must not wait for torch because some `__init__` on the way collects names."""
    full = set()
    for folder in ROOMS:
        tree = TREES[module_name(ROOT / folder / "__init__.py")]
        assert ast.get_docstring(tree), f"{folder}/__init__.py does not say what the folder is"
        if len(tree.body) > 1:
            full.add(folder)
    assert full == set(FACES)


@pytest.mark.parametrize("module", ["emlinit", "emlinit.finetune.files.read_table"])
def test_what_should_be_there_at_once_waits_for_no_large_library(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'torch', 'sympy'}} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == []
