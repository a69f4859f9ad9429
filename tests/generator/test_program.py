"""Tokens to programs and back; slicing and joining keep every program's values."""

import torch

from emlinit.generator.corpus.trees import add_constants, trees_by_size
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import EML, ONE, PAD, X1, from_text, pad_sequences, to_text
from emlinit.generator.program import Programs, programs_from_tokens, term_places, tokens_from_program


def _programs(n: int, seed: int) -> Programs:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(n, 3, dtype=torch.bool)
    sizes = torch.randint(0, 7, (n,), generator=generator)
    tokens, constants = add_constants(trees_by_size(sizes, mask, 0.3, generator), mask, generator)
    return programs_from_tokens(tokens, constants, 3)


def test_normal_form_round_trips() -> None:
    texts = ["x1", "1", "eml 1 eml x1 x2", "+ c:0.5 + w:-2.0 x1 j:3.0 eml 1 x2", "eml + c:1.0 w:-1.0 eml 1 x1 c:2.5"]
    tokens, constants = pad_sequences([from_text(text) for text in texts])
    programs = programs_from_tokens(tokens, constants, 2)
    assert [to_text(*tokens_from_program(programs, i)) for i in range(len(texts))] == texts


def test_products_are_multiplied_out() -> None:
    tokens, constants = from_text("w:2.0 + x1 j:3.0 + x2 c:4.0")
    program = programs_from_tokens(tokens[None], constants[None], 2)
    assert to_text(*tokens_from_program(program)) == "+ j:24.0 1 + w:2.0 x1 j:6.0 x2"


def test_rewriting_keeps_values() -> None:
    programs = _programs(300, 0)
    rewritten = [tokens_from_program(programs, i) for i in range(len(programs))]
    again = programs_from_tokens(*pad_sequences(rewritten), 3)
    x = 0.5 + torch.rand(16, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first, second = evaluate(programs, x), evaluate(again, x)
    assert float(first.valid.double().mean()) > 0.5
    both = first.valid & second.valid
    torch.testing.assert_close(first.value[both], second.value[both], rtol=1e-9, atol=0)


def test_slices_and_cat_keep_values() -> None:
    programs = _programs(64, 2)
    x = 0.5 + torch.rand(8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = evaluate(programs, x)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    parts = Programs.cat([programs[order[:20]], programs[order[20:21]], programs[order[21:]]])
    shuffled = evaluate(parts, x)
    assert torch.equal(shuffled.value, whole.value[order])
    assert torch.equal(shuffled.valid, whole.valid[order])
    single = evaluate(programs[5], x)
    assert torch.equal(single.value[0], whole.value[5])


def test_exact_programs_are_recognised() -> None:
    texts = ["x1", "eml 1 x1", "eml 1 w:1.0 x1", "c:1.0", "+ x1 x2", "eml x1 eml x2 1"]
    tokens, constants = pad_sequences([from_text(text) for text in texts])
    programs = programs_from_tokens(tokens, constants, 2)
    assert programs.is_exact().tolist() == [True, True, False, False, False, True]
    assert programs.n_free().tolist() == [0, 0, 1, 1, 0, 0]
    assert int((tokens == PAD).sum()) > 0
    assert programs.depth().tolist() == [0, 1, 1, 0, 0, 2]


def test_the_place_of_a_term_is_where_its_source_is_read() -> None:
    texts = ("x1", "+ c:0.5 + w:2.0 x1 eml j:0.5 x2 + x1 1", "w:3.0 eml + w:-1.0 eml 1 x1 w:2.0 x2 1")
    tokens, constants = pad_sequences([from_text(text, 2) for text in texts])
    programs = programs_from_tokens(tokens, constants, 2)
    is_term, slot, term = term_places(tokens)
    row, place = is_term.nonzero(as_tuple=True)
    source = programs.source[row, slot[row, place], term[row, place]]
    kind = tokens[row, place]
    leaf = torch.where(kind == ONE, 0, kind - X1 + 1)
    assert torch.equal(source[kind != EML], leaf[kind != EML])
    assert bool((source[kind == EML] > 2).all())
    assert int(is_term.sum()) == int(programs.used_terms().sum())


def test_written_out_a_shared_node_counts_each_time() -> None:
    texts = ("x1", "eml x1 eml x2 1", "eml eml x1 1 eml x1 1")
    programs = programs_from_tokens(*pad_sequences([from_text(text, 2) for text in texts]), 2)
    assert programs.n_written_nodes().tolist() == [0, 2, 3] == programs.n_nodes.tolist()
    source = programs.source.clone()
    source[2, 4, 0], source[2, 5, 0] = 4, 4  # both slots of the last node read the second one
    shared = Programs(
        source, programs.weight, programs.bias, programs.n_nodes, 2, programs.free_weight, programs.free_bias
    )
    assert shared.n_written_nodes().tolist() == [0, 2, 3]
    source[2, 3, 0] = 3  # which reads the first one
    assert shared.n_written_nodes().tolist() == [0, 2, 5]
