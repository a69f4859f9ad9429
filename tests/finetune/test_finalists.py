"""What is read of the candidates of a search, and what becomes of it."""

import time

import numpy as np
import pytest
import sympy
import torch

from emlinit.finetune.finalists import Finalists, exact_finalists, law_in, read_laws, refitted, weighted_finalists
from emlinit.finetune.law.finding import Finding
from emlinit.finetune.law.language import Language
from emlinit.finetune.law.law import Law
from emlinit.finetune.preparation import Problem, in_known_units, prepare
from emlinit.finetune.search.candidates import CandidatePool, Origin
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens

NETWORK = Origin("network", network=True)

X = np.linspace(50.0, 400.0, 60)[:, None]
Y = 2500.0 / X[:, 0]


def _programs(*texts: str) -> Programs:
    tokens, constants = pad_sequences([from_text(text, 1) for text in texts])
    return programs_from_tokens(tokens, constants, 1)


def _pool(problem: Problem, *texts: str, losses: list[float]) -> CandidatePool:
    pool = CandidatePool(len(problem.train))
    pool.add(_programs(*texts), torch.tensor(losses, dtype=torch.float64), NETWORK)
    return pool


def _finalists(programs: Programs) -> Finalists:
    return Finalists(programs, [NETWORK] * len(programs))


def _formulas(finalists: Finalists | None) -> list[str]:
    assert finalists is not None
    programs = finalists.programs
    return [Law.from_program(programs[i], ["x"], X).formula for i in range(len(programs))]


def test_nothing_found_is_nothing_to_read() -> None:
    problem = prepare(X, Y, np.random.default_rng(0))
    pool = CandidatePool(len(problem.train))
    assert exact_finalists(pool, problem) is None
    assert weighted_finalists(pool, problem, X, Y, time.monotonic() + 60) is None
    assert read_laws(None, ["x"], X, Y, time.monotonic() + 9, grammar="exact") == []


def test_weighted_finalists_are_in_the_datas_units_fitted_and_snapped() -> None:
    problem = in_known_units(prepare(X, Y, np.random.default_rng(0)))
    assert float(problem.x_unit) != 1.0
    # c/x, with a wrong factor and exponent nearly right
    pool = _pool(problem, "w:3.0 eml w:-1.001 eml 1 x1 1", losses=[0.1])
    finalists = weighted_finalists(pool, problem, X, Y, time.monotonic() + 60)
    assert finalists is not None
    formulas = _formulas(finalists)
    assert "2500/x" in formulas
    of_network = {formula for formula, origin in zip(formulas, finalists.origins, strict=True) if origin == NETWORK}
    assert of_network
    assert all("x" in formula for formula in of_network)
    others = [formula for formula, origin in zip(formulas, finalists.origins, strict=True) if origin != NETWORK]
    assert len(others) >= 2  # the simplest laws, for comparison
    assert set(others) - of_network


def test_with_a_margin_what_is_hopeless_is_not_read() -> None:
    rng = np.random.default_rng(0)
    y = Y * (1 + 1e-3 * rng.standard_normal(len(Y)))
    problem = in_known_units(prepare(X, y, rng))
    pool = _pool(problem, "w:3.0 eml w:-1.001 eml 1 x1 1", "+ c:0.1 w:1.0 eml 1 + c:3.0 x1", losses=[1e-6, 0.2])
    everything, near = (
        weighted_finalists(pool, problem, X, y, time.monotonic() + 60, margin=margin) for margin in (np.inf, 20.0)
    )
    assert everything is not None
    assert near is not None
    assert len(near.programs) < len(everything.programs)
    assert _formulas(near)[0] == _formulas(everything)[0]
    assert "x" in _formulas(near)[0]
    assert len(set(_formulas(near))) > 1  # the simplest laws are read in any case


def test_of_equal_candidates_one_is_read_the_simplest_first() -> None:
    problem = prepare(X, Y, np.random.default_rng(0))
    pool = _pool(problem, "x1", "eml 1 x1", "eml 1 eml x1 1", losses=[0.5, 0.2, 0.5])
    assert _formulas(exact_finalists(pool, problem)) == ["x", "E - log(x)"]


def test_reading_ends_with_the_time_but_not_before_some_are_read() -> None:
    programs = _programs(*(f"+ c:{i}.5 w:1.5 x1" for i in range(15)))
    late = read_laws(_finalists(programs), ["x"], X, Y, time.monotonic() - 0.01, grammar="weighted")
    assert 1 <= len(late) <= 10
    assert {finding.origin for finding in late} == {NETWORK}
    far_too_late = read_laws(_finalists(programs), ["x"], X, Y, time.monotonic() - 9.0, grammar="weighted")
    assert len(far_too_late) == 1


def test_reading_ends_after_some_exact_laws() -> None:
    programs = _programs(*["w:2500.0 eml w:-1.0 eml 1 x1 1"] * 6)
    y = Law.from_program(programs[0], ["x"], X).predict(X)
    found = read_laws(_finalists(programs), ["x"], X, y, time.monotonic() + 60, grammar="weighted")
    assert len(found) == 3
    assert all(finding.is_exact for finding in found)


def test_refitting_takes_all_rows_and_keeps_the_form() -> None:
    noise = np.random.default_rng(1).standard_normal(60)
    law = Law.from_program(_programs("w:3.1 x1"), ["x"], X)
    y = 3.0 * X[:, 0] + noise
    before = Finding.of(law, X, y, grammar="weighted", origin=NETWORK)
    after = refitted(before, X, y)
    assert after.rmse < before.rmse
    assert float(after.law.expression.coeff(after.law.symbols[0])) == pytest.approx(X[:, 0] @ y / (X[:, 0] @ X[:, 0]))
    assert (after.complexity, after.grammar, after.origin) == (before.complexity, "weighted", NETWORK)
    assert refitted(after, X, y) is after  # nothing left to gain


def test_only_what_the_language_has_words_for_is_read() -> None:
    programs = _programs("w:2.0 eml w:1.5 x1 1", "w:3.0 x1", "w:2.0 eml w:-1.5 eml 1 x1 1")
    late = time.monotonic() + 60

    def formulas(language: Language) -> list[str]:
        x = np.linspace(0.5, 3.0, 40)[:, None]
        found = read_laws(_finalists(programs), ["x"], x, x[:, 0], late, grammar="weighted", language=language)
        return [finding.law.short_formula for finding in found]

    assert len(formulas(Language())) == 3
    assert formulas(Language(frozenset({"*"}))) == ["3*x"]
    assert len(formulas(Language(forbidden=frozenset({"exp"})))) == 2
    assert len(formulas(Language(integer_exponents=True))) == 2
    assert len(formulas(Language(max_complexity=3))) == 3  # what is too long is told of


def test_a_law_is_said_in_the_words_that_there_are() -> None:
    x = np.linspace(0.5, 3.0, 40)[:, None]
    wave = _programs("w:2.0 eml j:3.0 x1 1")  # 2 cos 3x
    law = law_in(wave, ["x"], x, 0.5, Language(frozenset({"*", "+", "sin"})))
    assert law is not None
    assert "sin(" in law.formula
    assert "cos(" not in law.formula
    np.testing.assert_allclose(law.predict(x), 2 * np.cos(3 * x[:, 0]), atol=1e-14)
    assert law_in(wave, ["x"], x, 0.5, Language(forbidden=frozenset({"sin", "cos"}))) is None


def test_of_a_search_for_short_laws_the_cheap_candidates_are_read() -> None:
    problem = in_known_units(prepare(X, Y, np.random.default_rng(0)))
    long = [" ".join(f"+ w:{i}.5 eml w:-0.{i}{n} x1 1" for i in range(1, 9)) + f" c:{n}.5" for n in range(1, 9)]
    pool = _pool(problem, "w:0.5 eml w:-0.7 x1 1", *long, losses=[0.5, *(1e-9 * n for n in range(1, 9))])
    short = weighted_finalists(pool, problem, X, Y, time.monotonic() + 60, max_complexity=8)
    assert short is not None
    assert any(int(n) == 1 for n in short.programs.n_nodes)


def test_laws_that_no_real_formula_says_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Law.from_program(_programs("w:3.1 x1"), ["x"], X)
    unreal = Law(plain.program, plain.names, sympy.re(sympy.I * plain.expression**1.5, evaluate=False))
    assert not unreal.is_real
    laws = iter([unreal, plain, unreal])
    monkeypatch.setattr(Law, "from_program", lambda *args, **options: next(laws))
    late = time.monotonic() + 60
    found = read_laws(_finalists(_programs("x1", "x1")), ["x"], X, Y, late, grammar="weighted")
    assert [finding.law for finding in found] == [plain]
    found = read_laws(_finalists(_programs("x1")), ["x"], X, Y, late, grammar="weighted")
    assert found == []


def test_short_candidates_are_among_the_finalists_and_dust_is_not() -> None:
    problem = in_known_units(prepare(X, Y, np.random.default_rng(0)))
    waves = "".join(f"+ w:0.001 eml + j:{0.1 * k} 1 j:{0.03 * k!r} x1 1 " for k in range(1, 6))
    long = [f"{waves} + w:3.{k} eml w:-1.0 eml 1 x1 1 c:0.{k}" for k in range(1, 9)]
    short = "+ w:3.0 eml w:-1.1 eml 1 x1 1 w:1e-15 x1"
    pool = _pool(problem, *long, short, losses=[*[1e-6 + 1e-8 * k for k in range(8)], 0.05])
    programs = weighted_finalists(pool, problem, X, Y, time.monotonic() + 60, max_complexity=30)
    assert "2500/x" in _formulas(programs)
