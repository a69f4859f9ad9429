"""Random trees have the size or depth asked for, shapes are uniform, and constants keep the slot normal form."""

import torch

from emlinit.generator.corpus.examples import random_supports
from emlinit.generator.corpus.trees import add_constants, trees_by_depth, trees_by_size
from emlinit.generator.grammar import PAD, depth, is_complete, size
from emlinit.generator.program import programs_from_tokens, tokens_from_program


def _mask(n: int, generator: torch.Generator) -> torch.Tensor:
    mask = torch.rand(n, 3, generator=generator) < 0.5
    mask[:, 0] = True
    return mask


def test_sizes_are_as_asked_and_only_present_variables_appear() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = _mask(2000, generator)
    sizes = torch.randint(0, 12, (2000,), generator=generator)
    tokens = trees_by_size(sizes, mask, 0.3, generator)
    assert bool(is_complete(tokens, 3).all())
    assert torch.equal(size(tokens), sizes)
    for variable in range(3):
        assert not bool(((tokens == 7 + variable).any(-1) & ~mask[:, variable]).any())


def test_shapes_of_a_size_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    n = 14_000
    tokens = trees_by_size(torch.full((n,), 4), torch.ones(n, 1, dtype=torch.bool), 1.0, generator)
    counts = torch.unique(tokens, dim=0, return_counts=True)[1].double()
    assert len(counts) == 14  # Catalan number of 4
    chi2 = float(((counts - n / 14) ** 2 / (n / 14)).sum())
    assert chi2 < 40  # 13 degrees of freedom: exceeded with probability 1e-4


def test_depths_are_as_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    for level in range(0, 7):
        tokens = trees_by_depth(torch.full((300,), level), _mask(300, generator), 0.3, generator)
        assert bool(is_complete(tokens, 3).all())
        assert bool((depth(tokens) == level).all())


def test_of_no_rows_there_are_no_trees() -> None:
    """A level of depth, or a kind of program, may have no share in a small pool; the state of the generator stays."""
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state().clone()
    nobody = torch.ones(0, 3, dtype=torch.bool)
    trees = trees_by_size(torch.empty(0, dtype=torch.int64), nobody, 0.3, generator)
    assert trees.shape == (0, 1)
    assert trees_by_depth(torch.empty(0, dtype=torch.int64), nobody, 0.3, generator).shape == (0, 1)
    assert [len(t) for t in add_constants(trees, nobody, generator)] == [0, 0]
    assert torch.equal(generator.get_state(), before)


def test_added_constants_keep_the_shape_and_the_normal_form() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = _mask(400, generator)
    trees = trees_by_size(torch.randint(1, 6, (400,), generator=generator), mask, 0.3, generator)
    tokens, constants = add_constants(trees, mask, generator)
    assert bool(is_complete(tokens, 3).all())
    assert torch.equal(size(tokens), size(trees))
    programs = programs_from_tokens(tokens, constants, 3)
    assert int((programs.n_free() > 0).sum()) > 100
    for row in range(len(tokens)):
        written, _ = tokens_from_program(programs, row)
        length = int((tokens[row] != PAD).sum())
        assert sorted(written.tolist()) == sorted(tokens[row, :length].tolist())


def test_the_same_seed_gives_the_same_points() -> None:
    first, second, other = (
        random_supports(50, 20, 3, torch.Generator().manual_seed(seed), torch.device("cpu")) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert bool(torch.isfinite(first).all())
    assert 0.5 < float((first > 0).all(1).double().mean()) < 0.9
