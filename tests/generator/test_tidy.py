"""Tidying programs: what they compute stays."""

import torch

from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens
from emlinit.generator.tidy import drop_dead_nodes, drop_unused_terms, fold_ones

X = torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
TEXTS = ("+ c:0.5 + w:2.0 x1 + w:1.5 x2 w:0.3 eml x1 1", "w:2.0 eml + w:0.5 x1 w:-0.3 x2 + x1 x2", "x1")


def _programs() -> Programs:
    return programs_from_tokens(*pad_sequences([from_text(text, 2) for text in TEXTS]), 2)


def test_unused_terms_leave_no_places() -> None:
    programs = _programs()
    weight, free = programs.weight.clone(), programs.free_weight.clone()
    weight[:, :, 0], free[:, :, 0] = 0.0, False  # the first term of every slot
    thinned = Programs(programs.source, weight, programs.bias, programs.n_nodes, 2, free, programs.free_bias)
    tidy = drop_unused_terms(thinned)
    assert tidy.source.shape[2] == programs.source.shape[2] - 1
    for row in range(len(programs)):
        before, after = (evaluate(which, X, rtol=None) for which in (thinned[row], tidy[row]))
        torch.testing.assert_close(after.value, before.value, rtol=1e-15, atol=0, equal_nan=True)
    assert torch.equal(tidy.n_free(), thinned.n_free())
    assert len(drop_unused_terms(programs[:0])) == 0


def test_nodes_that_nothing_reads_are_dropped() -> None:
    programs = _programs()
    weight, free = programs.weight.clone(), programs.free_weight.clone()
    weight[0, -1, 2], free[0, -1, 2] = 0.0, False
    tidy = drop_dead_nodes(
        Programs(programs.source, weight, programs.bias, programs.n_nodes, 2, free, programs.free_bias)
    )
    assert tidy.n_nodes.tolist() == [0, 1, 0]
    torch.testing.assert_close(
        evaluate(tidy, X, rtol=None).value[1:], evaluate(programs, X, rtol=None).value[1:], rtol=1e-15, atol=0
    )


def test_terms_that_read_the_constant_one_become_part_of_the_constant() -> None:
    texts = ("+ c:0.5 + w:2.0 1 x1", "w:3.0 eml + w:1.5 1 x1 + 1 x2", "x1")
    programs = programs_from_tokens(*pad_sequences([from_text(text, 2) for text in texts]), 2)
    folded = fold_ones(programs)
    before, after = (evaluate(which, X) for which in (programs, folded))
    torch.testing.assert_close(after.value, before.value, rtol=1e-14, atol=0)
    assert not bool((folded.used_terms() & (folded.source == 0)).any())
    assert folded.n_free().tolist() == [1, 2, 0]  # 0.5 + 2.0 is one constant; 1 + x2 has none
