"""What `CORPUS_VERSION` stands for does not change unnoticed."""

import hashlib

import numpy as np

from emlinit.generator.corpus.config import CORPUS_VERSION
from emlinit.generator.corpus.formulas import sample_formula_programs

FORMULAS = {1: "5b00d794c9a8f420", 2: "5b00d794c9a8f420", 3: "5b00d794c9a8f420", 4: "5b00d794c9a8f420"}
"""Corpus version -> what the sampler of formulas draws with seed 0."""


def test_formulas_change_with_the_version_only() -> None:
    """All numbers of `formulas` are in this: tables, chances, spreads, and the order of the draws."""
    tokens, constants = sample_formula_programs(400, np.random.default_rng(0))
    words = [f"{kind}:{value:.6g}" for kind, value in zip(tokens.flat, constants.flat, strict=True)]
    drawn = hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]
    assert FORMULAS[CORPUS_VERSION] == drawn, "other formulas are drawn: raise CORPUS_VERSION and add this hash"
