"""The names, parameters and options that other people's programs rest on.

Frozen here: the names that `emlinit` itself offers; the parameters, their order, kinds and defaults, of what is called by
users; the fields that they read off a law and a solution; the learned attributes of the estimator; the import paths of
earlier READMEs; the options of `emlinit solve`.

Not frozen, on purpose: everything else that can be imported (rooms, modules, helpers may move), annotations, the wording
of messages and help texts, and what `emlinit evaluate` and the studies offer.

If a test here fails, a user's program would, too. To change it on purpose: keep the old way working for a version and say
so in CHANGELOG.md, then change the expectation in the same commit.
"""

import dataclasses
import inspect
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emlinit

NAMES = ["EMLInitialiser", "EMLRegressor", "Law", "UserError", "__version__", "fit_form", "solve"]


def _parameters(function: Callable[..., object]) -> list[str]:
    """Such as ["x", "*seconds=20"]: a star before what is named in a call."""
    stars = {inspect.Parameter.KEYWORD_ONLY: "*"}
    return [
        stars.get(p.kind, "") + name + ("" if p.default is p.empty else f"={p.default!r}")
        for name, p in inspect.signature(function).parameters.items()
        if name not in ("self", "cls")
    ]


def test_the_names_of_the_package() -> None:
    assert emlinit.__all__ == NAMES
    assert set(NAMES) <= set(dir(emlinit))
    for name in NAMES:
        assert getattr(emlinit, name) is not None
    assert isinstance(emlinit.__version__, str)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'EMLRegresor': the public names are .*EMLRegressor"):
        emlinit.EMLRegresor  # noqa: B018 (the access is the test)


def test_earlier_import_paths_lead_to_the_same_objects() -> None:
    import emlinit.finetune
    import emlinit.model

    assert emlinit.finetune.EMLRegressor is emlinit.EMLRegressor
    assert emlinit.model.EMLInitialiser is emlinit.EMLInitialiser


def test_the_parameters_of_solve() -> None:
    assert _parameters(emlinit.solve) == [
        "x",
        "y",
        "*grammar='auto'",
        "*seconds=20",
        "*initialisers=None",
        "*seed=0",
        "*names=None",
        "*progress=None",
        "*weighted=None",
        "*operators=None",
        "*forbid=None",
        "*max_complexity=30",
        "*integer_exponents=False",
        "*stop=None",
        "*on_better=None",
        "*sigma=None",
        "*sample_weight=None",
        "*loss='squares'",
    ]


def test_the_parameters_of_solve_groups_and_what_it_returns() -> None:
    from emlinit.finetune.group_solver import GroupedSolution, solve_groups
    from emlinit.finetune.groups.grouped_law import GroupedLaw

    assert _parameters(solve_groups) == [
        "x",
        "y",
        "groups",
        "*seconds=20",
        "*initialisers=None",
        "*seed=0",
        "*names=None",
        "*column='group'",
        "*sigma=None",
        "*sample_weight=None",
        "*loss='squares'",
        "*progress=None",
        "*operators=None",
        "*forbid=None",
        "*max_complexity=30",
        "*integer_exponents=False",
        "*stop=None",
    ]
    assert [field.name for field in dataclasses.fields(GroupedSolution)] == [
        "law",
        "front",
        "exact",
        "rmse",
        "r2",
        "counts",
        "group_rmse",
        "seconds",
        "notes",
    ]
    assert _parameters(GroupedLaw.predict) == ["x", "groups=None"]
    assert _parameters(GroupedLaw.python_source) == ["target='y'", "remark=''"]
    for name in ("names", "own", "groups", "values", "standard_errors", "shared", "table", "formula", "latex", "sympy"):
        assert hasattr(GroupedLaw, name) or name in {field.name for field in dataclasses.fields(GroupedLaw)}, name


def test_the_parameters_of_fit_form_and_what_it_returns() -> None:
    from emlinit.finetune.forms import FittedForm

    assert _parameters(emlinit.fit_form) == ["form", "X", "y", "*start=None", "*seconds=10.0", "*seed=0"]
    assert [field.name for field in dataclasses.fields(FittedForm)] == [
        "form",
        "formula",
        "constants",
        "standard_errors",
        "residual_deviation",
        "r2",
        "covariance",
        "parsed",
    ]
    assert _parameters(FittedForm.predict) == ["X"]


def test_the_parameters_of_the_estimator() -> None:
    estimator = emlinit.EMLRegressor
    assert _parameters(estimator.__init__) == [
        "*seconds=20",
        "*grammar='auto'",
        "*checkpoint=None",
        "*device='auto'",
        "*random_state=None",
        "*operators=None",
        "*forbid=None",
        "*max_complexity=30",
        "*integer_exponents=False",
        "*loss='squares'",
    ]
    assert _parameters(estimator.fit) == ["X", "y", "sample_weight=None", "*sigma=None", "*groups=None"]
    assert _parameters(estimator.predict) == ["X", "return_std=False", "*groups=None"]
    assert _parameters(estimator.sympy) == _parameters(estimator.latex) == []


def test_what_can_be_read_off_a_law() -> None:
    law = emlinit.Law
    assert [field.name for field in dataclasses.fields(law)] == ["program", "names", "expression"]
    assert _parameters(law.from_program) == ["program", "names", "x=None", "*simplify_seconds=2.0"]
    assert _parameters(law.predict) == ["x"]
    assert _parameters(law.python_source) == ["target='y'", "remark=''"]
    assert _parameters(law.sympy) == _parameters(law.latex) == []
    for name in ("formula", "short_formula", "eml", "complexity", "symbols", "renamed"):
        assert hasattr(law, name), name


def test_what_can_be_read_off_a_solution() -> None:
    from emlinit.finetune.law.finding import Finding
    from emlinit.finetune.solver import Solution

    assert [field.name for field in dataclasses.fields(Solution)] == [
        "law",
        "front",
        "exact",
        "grammar",
        "train",
        "validation",
        "seconds",
        "checkpoint",
        "notes",
        "revision",
        "stage",
        "stages",
        "sigma",
        "weights",
        "noise",
        "extrapolation",
        "no_extrapolation",
        "outliers",
        "rivals",
    ]
    assert {"law", "complexity", "rmse"} <= {*dir(Finding), *(field.name for field in dataclasses.fields(Finding))}


def test_the_parameters_of_the_initialiser() -> None:
    assert _parameters(emlinit.EMLInitialiser.load) == ["source", "device='cpu'"]
    assert _parameters(emlinit.EMLInitialiser.propose) == [
        "x",
        "y",
        "n",
        "*generator=None",
        "*temperature=1.0",
        "*top_p=1.0",
        "*method='sample'",
        "*max_tokens=None",
        "*n_bags=4",
        "*points_per_bag=64",
    ]


def test_what_fit_learns() -> None:
    x = np.linspace(0.0, 1.0, 5)[:, None]
    estimator = emlinit.EMLRegressor(seconds=1).fit(x, np.ones(5))
    learned = {name for name in vars(estimator) if name.endswith("_")}
    assert learned == {"law_", "equations_", "constants_", "solution_", "n_features_in_"}
    columns = ["complexity", "rmse", "formula", "sympy", "law", "chosen"]
    assert list(estimator.equations_.columns) == columns


def test_the_options_of_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from emlinit.scripts import solve

    monkeypatch.setattr(
        sys, "argv", ["solve"]
    )  # the examples of the help begin with it; in a process of pytest it is "-c"
    assert vars(solve.parse(["data.csv"])) == {
        "data": Path("data.csv"),
        "target": None,
        "features": None,
        "header": "auto",
        "missing": None,
        "group": None,
        "sigma": None,
        "loss": "squares",
        "operators": None,
        "forbid": None,
        "max_complexity": 30,
        "integer_exponents": False,
        "grammar": "auto",
        "seconds": 20.0,
        "checkpoint": None,
        "device": "auto",
        "seed": 0,
        "out": None,
        "json": False,
        "plot": False,
    }
    with pytest.raises(SystemExit):
        solve.parse(["--help"])
    shown = re.findall(r"^  (-.*?)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert sorted(option for line in shown for option in re.findall(r"--[\w-]+", line)) == [
        "--checkpoint",
        "--device",
        "--features",
        "--forbid",
        "--grammar",
        "--group",
        "--header",
        "--help",
        "--integer-exponents",
        "--json",
        "--loss",
        "--max-complexity",
        "--missing",
        "--operators",
        "--out",
        "--plot",
        "--seconds",
        "--seed",
        "--sigma",
        "--target",
    ]


def test_a_user_error_is_a_value_error() -> None:
    assert issubclass(emlinit.UserError, ValueError)


def test_importing_the_package_waits_for_nothing() -> None:
    """A third of a second, measured by the fastest of some runs: a busy machine is no reason to fail."""
    code = "import sys, emlinit; print(emlinit.__version__, 'torch' in sys.modules, 'sympy' in sys.modules)"
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - began)
        assert done.stdout.split() == [emlinit.__version__, "False", "False"]
    assert min(seconds) < 0.3
