"""The network as judge: every spelling counts, units do not, and what it cannot tell costs no less than the rest."""

import math
import time

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor

from emlinit.finetune.judging import FormJudge, judged
from emlinit.finetune.law.choice import choose
from emlinit.finetune.law.finding import JUDGE_SHARE, Finding
from emlinit.finetune.law.law import Law
from emlinit.finetune.preparation import Problem, in_known_units, prepare
from emlinit.generator.formulas.compile_weighted import compile_weighted
from emlinit.generator.grammar import PAD, from_text, to_text
from emlinit.generator.program import programs_from_tokens
from emlinit.model import EMLInitialiser

RNG = np.random.default_rng(0)
X = RNG.uniform(0.5, 5.0, (40, 1))
Y = 3.0 * np.exp(-0.7 * X[:, 0]) + 0.5 + 0.02 * RNG.standard_normal(40)


def _law(text: str) -> Law:
    tokens, constants = from_text(text, 1)
    return Law.from_program(programs_from_tokens(tokens[None], constants[None], 1), ["x"], X)


def _finding(text: str, x: np.ndarray = X, y: np.ndarray = Y) -> Finding:
    return Finding.of(_law(text), x, y, grammar="weighted")


def _problem(x: np.ndarray = X, y: np.ndarray = Y) -> Problem:
    return in_known_units(prepare(x, y, np.random.default_rng(0), math.inf))


class _Counts:
    """A judge that asks a nat a token, and remembers what it was shown."""

    def __init__(self, unknown: str = "nothing") -> None:
        self.unknown, self.texts, self.points = unknown, list[str](), list[Tensor]()

    def log_prob(self, tokens: Tensor, constants: Tensor, x: Tensor, y: Tensor, *, n_bags: int) -> Tensor:
        self.points.append(x)
        texts = [to_text(*row) for row in zip(tokens, constants, strict=True)]
        self.texts += texts
        known = torch.tensor([self.unknown not in text for text in texts])
        return torch.where(known, -(tokens != PAD).sum(-1).double(), -torch.inf)


DECAY, LINE = "+ c:0.5 w:3.0 eml w:-0.7 x1 1", "+ c:2.0 w:-0.4 x1"


def test_the_likeliest_spelling_counts() -> None:
    """A power is spelled in its own way by whoever found it."""
    found = _finding("w:2.0 eml w:-0.5 eml 1 eml w:2.0 x1 1 1")  # 2 exp(-0.5 (e - 2 x)), which is c exp(x)
    judge = _Counts()
    (told,) = judged([found], X, _problem(), judge, math.inf)
    assert len(judge.texts) == 3
    lengths = [len(text.split()) for text in judge.texts]
    assert told.told_nats == min(lengths) < max(lengths)


def test_a_power_costs_the_same_however_it_was_found() -> None:
    """With a factor folded into an exponential it is spelled as no program of the corpus is."""
    x = np.geomspace(0.4, 30.0, 8)[:, None]
    y = 365.0 * x[:, 0] ** 1.5
    texts = ("w:365.0 eml w:-1.5 eml 1 x1 1", "w:3.65 eml + c:4.605170185988092 w:-1.5 eml 1 x1 1")
    laws = []
    for text in texts:
        tokens, constants = from_text(text, 1)
        laws.append(Law.from_program(programs_from_tokens(tokens[None], constants[None], 1), ["x"], x))
    findings = [Finding.of(law, x, y, grammar="weighted") for law in laws]
    told = judged(findings, x, _problem(x, y), _Counts(), math.inf)
    assert told[0].told_nats == told[1].told_nats


def test_the_network_reads_its_own_units() -> None:
    x, y = X * 1e6, Y * 1e-5
    tokens, constants = from_text("+ c:0.5e-5 w:3.0e-5 eml w:-0.7e-6 x1 1", 1)
    law = Law.from_program(programs_from_tokens(tokens[None], constants[None], 1), ["x"], x)
    judge = _Counts()
    judged([Finding.of(law, x, y, grammar="weighted")], x, _problem(x, y), judge, math.inf)
    assert all(bool((points.abs() < 31).all()) for points in judge.points)
    rates = [float(word[2:]) for text in judge.texts for word in text.split() if word.startswith("w:-")]
    assert rates
    assert all(0.1 < abs(rate) < 10 for rate in rates)


def test_what_cannot_be_written_costs_as_much_as_the_worst() -> None:
    findings = [_finding(DECAY), _finding(LINE), _finding("w:1.0 eml j:1.0 x1 1")]
    told = judged(findings, X, _problem(), _Counts("j:"), math.inf)
    nats = [one.told_nats for one in told]
    assert None not in nats
    assert nats[2] == max(nats[0], nats[1], 1.5 * findings[2].complexity)  # type: ignore[type-var]


def test_when_time_is_up_nobody_is_judged() -> None:
    findings = [_finding(DECAY), _finding(LINE)]
    told = judged(findings, X, _problem(), _Counts(), time.monotonic() - 1)
    assert [one.told_nats for one in told] == [None, None]


def test_half_of_what_a_form_costs_is_what_the_network_says() -> None:
    plain = _finding(DECAY)
    (told,) = judged([plain], X, _problem(), _Counts(), math.inf)
    assert told.told_nats is not None
    expected = (1 - JUDGE_SHARE) * plain.description_nodes + JUDGE_SHARE * told.told_nats / 1.5
    assert told.description_nodes == pytest.approx(expected)


def test_the_shipped_network_says_what_a_scientist_would() -> None:
    """Twelve points of an enzyme's rate: a saturation is likelier than a power law with an offset that fits as well."""
    rng = np.random.default_rng(3)
    x = np.linspace(0.1, 4.0, 12)[:, None]
    y = 2.0 * x[:, 0] / (0.8 + x[:, 0]) * (1 + 0.01 * rng.standard_normal(12))
    symbol = sympy.Symbol("x", positive=True)
    model = EMLInitialiser.load("builtin:weighted")
    assert isinstance(model, FormJudge)
    formulas = (2.0 * symbol / (0.8 + symbol), 8.2 * symbol**0.05 - 7.1)
    laws = [Law.from_program(compile_weighted(formula, [symbol]), ["x"], x) for formula in formulas]
    findings = [Finding.of(law, x, y, grammar="weighted") for law in laws]
    saturation, power = judged(findings, x, _problem(x, y), model, math.inf)
    assert saturation.told_nats is not None
    assert power.told_nats is not None
    assert saturation.told_nats < power.told_nats - 3


def test_the_choice_listens_to_the_judge() -> None:
    """Two forms that fit alike: without a judge the shorter one, with one that will not have it the other."""
    rows = np.arange(len(X))
    y = 1.9 * np.exp(-0.35 * X[:, 0]) + 0.1 * np.sin(20 * X[:, 0])
    short, long = (_finding(text, y=y) for text in ("w:1.9 eml w:-0.35 x1 1", DECAY))
    assert choose([short, long], rows, rows)[1] is short

    class Partial(_Counts):
        def log_prob(self, tokens: Tensor, constants: Tensor, x: Tensor, y: Tensor, *, n_bags: int) -> Tensor:
            return -2000.0 * (constants == 1.9).any(-1).double() - 1.0

    told = judged([short, long], X, _problem(), Partial(), math.inf)
    assert choose(told, rows, rows)[1] is told[1]
