"""The wheel: it holds all that the checkout holds, and works where there is nothing but it, also beside the checkout.

The other tests run on the checkout, so only these notice a package or a data file that is missing from `pyproject.toml`.
Nothing is downloaded: the wheel is built with the setuptools that is installed, from a copy of the checkout.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HOUSES = SETTINGS["tool"]["setuptools"]["package-dir"]
"""Import name of each house to its folder in the checkout."""

pytestmark = pytest.mark.slow


def run(*command: str | Path, folder: Path, path: Path | None = None) -> str:
    """What a command says that is run in a folder, with another folder first on Python's path."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    finished = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout.strip()


def pip(*arguments: str | Path, folder: Path) -> None:
    run(sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", *arguments, folder=folder)


def files(house: str) -> set[str]:
    """Files of a house as a wheel names them; not what Python caches."""
    folder = ROOT / HOUSES[house]
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {"/".join([*house.split("."), *path.relative_to(folder).parts]) for path in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy: a build leaves folders behind, and takes up what an earlier one left."""
    copy, into = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", *SETTINGS["project"]["license-files"], SETTINGS["project"]["readme"]):
        shutil.copy(ROOT / name, copy)
    for folder in HOUSES.values():
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", into, copy, folder=into)
    (found,) = into.glob("emlinit-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the wheel in it."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--no-compile", "--target", folder, wheel, folder=folder)
    return folder


def test_the_wheel_holds_every_file_of_the_houses_and_no_other(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in held if ".dist-info/" not in name} == set().union(*map(files, HOUSES))
    for name in ("py.typed", "checkpoints/exact/model.safetensors", "checkpoints/weighted/config.json"):
        assert f"emlinit/{name}" in held


def test_the_version_is_that_of_the_package(wheel: Path, installed: Path, tmp_path: Path) -> None:
    version = run(sys.executable, "-c", "import emlinit; print(emlinit.__version__)", folder=tmp_path, path=installed)
    assert wheel.name.split("-")[1] == version


def test_every_module_is_imported_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in sorted(set().union(*map(files, HOUSES)))
        if name.endswith(".py")
    ]
    code = """
import importlib, pathlib, sys
folder, *names = sys.argv[1:]
for name in names:
    file = importlib.import_module(name).__file__
    assert pathlib.Path(file).is_relative_to(folder), file
"""
    run(sys.executable, "-c", code, installed, *modules, folder=tmp_path, path=installed)


@pytest.mark.parametrize("from_the_checkout", [False, True])
def test_the_installed_package_works(from_the_checkout: bool, installed: Path, tmp_path: Path) -> None:
    """Also run from the root of the checkout, whose folders come before the installed ones on Python's path."""
    folder = ROOT if from_the_checkout else tmp_path
    code = """
import emlinit
initialiser = emlinit.EMLInitialiser.load("builtin:exact")
print(emlinit.__file__, initialiser.config.grammar, emlinit.EMLRegressor.__module__)
"""
    said = run(sys.executable, "-c", code, folder=folder, path=installed).split()
    assert said == [str(installed / "emlinit" / "__init__.py"), "exact", "emlinit.finetune.estimator"]
    helped = run(sys.executable, "-m", "emlinit.scripts.cli", "--help", folder=folder, path=installed)
    assert helped.startswith("usage: emlinit COMMAND")


def test_the_installed_command_works(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "emlinit"
    assert run(sys.executable, command, "--help", folder=tmp_path, path=installed).startswith("usage: emlinit COMMAND")
