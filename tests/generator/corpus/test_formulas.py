"""Random formulas: well formed, canonical, within their limits, deterministic, varied and fast."""

import subprocess
import sys

import numpy as np
import torch

from emlinit.generator.corpus.formulas import FormulaConfig, sample_formula_programs
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import PAD, X1, is_complete, size
from emlinit.generator.program import programs_from_tokens, tokens_from_program

SAMPLE = sample_formula_programs(600, np.random.default_rng(0))
SLOWEST = 1000  # formulas a second of processor time; measured 5,000 to 7,500 on one idle core


def test_sequences_are_complete_and_within_the_limits() -> None:
    config = FormulaConfig(max_variables=3, max_nodes=6, max_tokens=30)
    tokens, constants = sample_formula_programs(200, np.random.default_rng(1), config)
    assert (tokens.dtype, constants.dtype) == (np.int64, np.float64)
    assert tokens.shape == constants.shape
    assert bool(is_complete(torch.from_numpy(tokens), 3).all())
    assert int(size(torch.from_numpy(tokens)).max()) <= 6
    assert tokens.shape[1] <= 30
    assert np.abs(constants).max() <= config.largest_constant


def test_sequences_are_in_slot_normal_form() -> None:
    tokens, constants = SAMPLE
    programs = programs_from_tokens(torch.from_numpy(tokens), torch.from_numpy(constants), 5)
    for row in range(0, len(tokens), 5):
        kinds, values = tokens_from_program(programs, row)
        used = tokens[row] != PAD
        assert kinds.tolist() == tokens[row][used].tolist()
        assert values.tolist() == constants[row][used].tolist()


def test_variables_in_use_come_first() -> None:
    tokens, _ = SAMPLE
    counts = set()
    for row in tokens:
        used = {int(kind) for kind in row if kind >= X1}
        assert used
        assert used == set(range(X1, X1 + len(used)))
        counts.add(len(used))
    assert counts >= {1, 2, 3, 4}


def test_same_generator_state_same_formulas() -> None:
    first, again, other = (sample_formula_programs(60, np.random.default_rng(seed)) for seed in (7, 7, 8))
    np.random.seed(0)  # noqa: NPY002  the global state must not matter
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].shape != other[0].shape or (first[0] != other[0]).any()


def test_formulas_are_varied_and_mostly_defined() -> None:
    tokens, constants = SAMPLE
    assert len({tuple(row) for row in tokens.tolist()}) > 0.5 * len(tokens)  # structures, constants aside
    x = torch.rand(64, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 0.1
    programs = programs_from_tokens(torch.from_numpy(tokens), torch.from_numpy(constants), 5)
    share = evaluate(programs, x).valid.double().mean()
    assert share > 0.85


def test_speed() -> None:
    """Measured in a plain interpreter: in this one every call would be checked against its annotations."""
    code = (
        "import time, numpy; from emlinit.generator.corpus.formulas import sample_formula_programs as sample;"
        "rng = numpy.random.default_rng(3); start = time.process_time(); sample(2000, rng);"
        "print(2000 / (time.process_time() - start))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > SLOWEST
