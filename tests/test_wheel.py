"""The wheel that `pip install` makes: every room, the data and the weights are in it, and it runs from anywhere."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = "from setuptools import build_meta; import sys; print(build_meta.build_wheel(sys.argv[1]))"
FOLDERS = ("benchmarks", "checkpoints", "finetune", "generator", "model", "scripts")
DATA = {
    "emlinit/py.typed",
    "emlinit/generator/corpus/data/grammar_exact.parquet",
    "emlinit/generator/corpus/data/formulas_hard.parquet",
    "emlinit/generator/corpus/data/formulas_hard_aside.parquet",
    "emlinit/generator/corpus/data/formulas_weighted.parquet",
    "emlinit/benchmarks/laws/data/nguyen.json",
    "emlinit/benchmarks/laws/data/measured/kepler.csv",
    "emlinit/checkpoints/exact/model.safetensors",
    "emlinit/checkpoints/exact/config.json",
    "emlinit/checkpoints/weighted/model.safetensors",
    "emlinit/checkpoints/weighted/README.md",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git tracks, so that a file left out of a commit is missing here, too."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs to the project is not known")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds nothing but the wheel; what it depends on comes from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def _run(code: str, site: Path, cwd: Path) -> str:
    """Run Python with the unpacked wheel before everything else; an editable install elsewhere is not looked at."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_and_all_data_are_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {
        f"emlinit/{path.relative_to(ROOT).as_posix()}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")
    }
    assert (modules | DATA | {"emlinit/__init__.py"}) - names == set()
    assert not any(name.startswith(("tests/", "api/", "emlinit/api/")) for name in names)


def test_every_tracked_file_of_the_rooms_is_in_the_wheel_and_no_other(wheel: Path) -> None:
    """A data file that `package-data` forgets is missed where it is read, perhaps by a user only."""
    listed = subprocess.run(["git", "ls-files", "-z", "api", *FOLDERS], cwd=ROOT, capture_output=True, check=True)
    tracked = {
        f"emlinit/{name.removeprefix('api/')}"
        for name in filter(None, listed.stdout.decode().split("\0"))
        if (ROOT / name).is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == tracked


def test_pip_installs_the_command(wheel: Path, tmp_path: Path) -> None:
    """With what the environment has: pip is told to download nothing."""
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install"]
    site = tmp_path / "site"
    done = subprocess.run(
        [*pip, "--no-deps", "--no-index", "--no-compile", "--target", str(site), str(wheel)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    helped = subprocess.run(
        [sys.executable, str(site / "bin" / "emlinit"), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert helped.stdout.startswith("usage: emlinit COMMAND"), helped.stderr


@pytest.mark.parametrize("place", ["elsewhere", "checkout"])
def test_the_installed_package_is_the_one_that_runs(installed: Path, tmp_path: Path, place: str) -> None:
    """In the root of the checkout, too: no folder there may hide the installed package."""
    cwd = ROOT if place == "checkout" else tmp_path
    code = (
        "import emlinit, emlinit.generator.grammar, emlinit.checkpoints as shipped\n"
        "print(emlinit.__version__, emlinit.__file__, emlinit.generator.grammar.__file__, shipped.BUILTIN_DIR, sep='\\n')"
    )
    version, *files = _run(code, installed, cwd).splitlines()
    assert version
    assert all(Path(file).is_relative_to(installed) for file in files)


def test_every_module_is_imported_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import importlib, pkgutil, emlinit\n"
        "names = [found.name for found in pkgutil.walk_packages(emlinit.__path__, 'emlinit.')]\n"
        "print(len([importlib.import_module(name) for name in names]))"
    )
    n_modules = sum(1 for folder in FOLDERS for _ in (ROOT / folder).rglob("*.py"))
    assert int(_run(code, installed, tmp_path)) == n_modules


def test_the_shipped_weights_and_the_command_work_from_a_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "from emlinit import EMLInitialiser\n"
        "from emlinit.benchmarks.laws.suites import load_law_suite\n"
        "from emlinit.scripts.cli import main\n"
        "print([EMLInitialiser.load(f'builtin:{name}').config.grammar for name in ('exact', 'weighted')])\n"
        "print(len(load_law_suite('measured')), main(['--help']))"
    )
    lines = _run(code, installed, tmp_path).splitlines()
    assert lines[0] == "['exact', 'weighted']"
    assert lines[1].startswith("usage: emlinit COMMAND")
    assert lines[-1] == "12 0"
