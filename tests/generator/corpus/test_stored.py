"""Programs of a stored corpus: all of them once an epoch, other ones on each rank, and nothing that is evaluated on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.drawing import EXCLUDE_FROM_SIZE, Admission, weighted_keys
from emlinit.generator.corpus.folder import COLUMNS
from emlinit.generator.corpus.frozen import load_formula_problems, load_grammar_problems, training_exclusions
from emlinit.generator.corpus.stored import StoredPrograms
from emlinit.generator.corpus.stream import ExampleStream
from emlinit.generator.errors import UserError
from emlinit.generator.evaluate import evaluate
from emlinit.generator.grammar import C, J, W, from_text, size
from emlinit.generator.program import programs_from_tokens

Law = Callable[..., StreamConfig]
Stored = Callable[[str], Path]


class _All(Admission):
    """Lets everything in."""

    def __init__(self) -> None: ...

    def __call__(self, drawn: Any) -> Any:
        return drawn


def _write(folder: Path, grammar: str, texts: list[str]) -> None:
    """A corpus as somebody else may make it: one file, no card."""
    programs = [from_text(text) for text in texts]
    columns = {
        "tokens": [tokens.tolist() for tokens, _ in programs],
        "constants": [values[torch.isin(t, torch.tensor([C, W, J]))].tolist() for t, values in programs],
        "n_variables": [max(1, int(tokens.max()) - 6) for tokens, _ in programs],
    }
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(list(COLUMNS[grammar].items()))
    pq.write_table(pa.table({name: columns[name] for name in schema.names}, schema=schema), folder / "programs.parquet")


def _programs(drawn: Any) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    pairs = zip(drawn.tokens.tolist(), drawn.constants.tolist(), strict=True)
    return [(tuple(k for k in kinds if k), tuple(v for v in values if v)) for kinds, values in pairs]


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_each_program_comes_once_an_epoch_on_one_of_the_ranks(grammar: str, law: Law, stored: Stored) -> None:
    config = law(grammar, corpus=str(stored(grammar)))
    generator = torch.Generator()
    ranks = [StoredPrograms(config, _All(), seed=0, rank=rank, n_ranks=2) for rank in range(2)]
    one = StoredPrograms(config, _All(), seed=0)
    everything = Counter(_programs(one.read(range(300))))
    epochs = [[_programs(source.draw(150, generator)) for source in ranks] for _ in range(2)]
    assert [len(one), len(ranks[0])] == [300, 300]
    for parts in epochs:
        assert Counter(parts[0] + parts[1]) == everything
    assert epochs[0] != epochs[1]
    assert _programs(one.draw(300, generator)) != _programs(one.read(range(300)))  # shuffled
    other = StoredPrograms(config, _All(), seed=1)
    assert _programs(other.draw(150, generator)) != _programs(
        StoredPrograms(config, _All(), seed=0).draw(150, generator)
    )
    assert one.sha256 == ranks[0].sha256 != ""


@pytest.mark.parametrize("share", [1.0, 0.4])
@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_a_resumed_stream_goes_on_where_it_stopped(grammar: str, share: float, law: Law, stored: Stored) -> None:
    config = law(grammar, corpus=str(stored(grammar)), corpus_share=share)
    whole = ExampleStream(config, seed=5)
    expected, states = [], []
    for _ in range(11):  # pools of 4 minibatches
        states.append(whole.state_dict())
        expected.append(next(whole))
    assert all(set(map(type, state.values())) <= {int, str} for state in states)
    for at in (2, 4, 7, 8):
        resumed = ExampleStream(config, seed=5)
        resumed.load_state_dict(states[at])
        for batch in expected[at : at + 3]:
            again = next(resumed)
            assert all(torch.equal(getattr(batch, name), getattr(again, name)) for name in vars(batch))


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_stored_programs_get_points_like_others(grammar: str, law: Law, stored: Stored) -> None:
    config = law(grammar, corpus=str(stored(grammar)), noise_share=0.0)
    known = set(_programs(StoredPrograms(config, _All(), seed=0).read(range(300))))
    stream = ExampleStream(config, seed=0)
    first, second = stream.make_pool(0), stream.make_pool(1)
    for batch in first:
        # Whether a value is certified may depend on the programs that it is evaluated with, if only just.
        result = evaluate(programs_from_tokens(batch.tokens, batch.constants, 5), batch.x, rtol=None)
        torch.testing.assert_close(result.value, batch.y, rtol=1e-9, atol=0)
        found = _programs(batch)
        # Canonical form is reached in two passes, so that a third may find a still shorter spelling.
        assert sum(program in known for program in found) >= 0.97 * len(found)
    assert not torch.equal(first[0].x[:2, :8], second[0].x[:2, :8])
    mixed = ExampleStream(replace(config, corpus_share=0.25), seed=0).make_pool(0)
    assert sum(len(batch) for batch in mixed) == 64
    n_known = sum(program in known for batch in mixed for program in _programs(batch))
    # 16 come from the corpus, nearly all in the form that they have there; small fresh ones may be known, too.
    assert 15 <= n_known < 64


def test_a_corpus_that_changed_or_went_is_noticed(law: Law, stored: Stored, tmp_path: Path) -> None:
    config = law("exact", corpus=str(stored("exact")))
    state = ExampleStream(config, seed=0).state_dict()
    _write(tmp_path, "exact", ["eml x1 1", "eml x1 x1"])
    with pytest.raises(UserError, match=r"read its programs from the stored corpus \w{12}, not from the stored corpus"):
        ExampleStream(replace(config, corpus=str(tmp_path)), seed=0).load_state_dict(state)
    with pytest.raises(UserError, match="not from the endless stream"):
        ExampleStream(replace(config, corpus=""), seed=0).load_state_dict(state)


def test_frozen_trees_in_a_foreign_corpus_are_skipped_in_any_spelling(law: Law, tmp_path: Path) -> None:
    config = law("exact", max_variables=3, max_nodes=15, max_depth=6, max_tokens=64, corpus=str(tmp_path))
    frozen = [p for p in load_grammar_problems() if p.text.count("eml") >= EXCLUDE_FROM_SIZE and p.x.shape[1] == 3][:40]
    # ln(exp(u)) is u: eml(1, eml(eml(1, u), 1)) is ln u, and u here is exp of the tree
    spelled = [f"eml 1 eml eml 1 eml {problem.text} 1 1" for problem in frozen[:10]]
    ours = ["eml x1 x2", "eml eml x1 x2 x3", "eml x3 eml x2 x1"]
    _write(tmp_path, "exact", [*(problem.text for problem in frozen), *spelled, *ours])
    batches, excluded = training_exclusions(config)
    stream = ExampleStream(config, seed=0, excluded_keys=excluded)
    tokens = [batch.tokens for batch in stream.make_pool(0)]
    expected = {tuple(from_text(text)[0].tolist()) for text in ours}
    assert {tuple(k for k in row if k) for t in tokens for row in t.tolist()} <= expected
    unfiltered = ExampleStream(config, seed=0).make_pool(0)
    assert any(int(size(batch.tokens).max()) >= EXCLUDE_FROM_SIZE for batch in unfiltered)  # there was work to do
    assert len(batches) == config.pool_batches


def test_frozen_formulas_in_a_foreign_corpus_are_skipped(law: Law, tmp_path: Path) -> None:
    config = law("weighted", max_variables=3, max_nodes=15, max_tokens=64, corpus=str(tmp_path))
    frozen = [problem.text for problem in load_formula_problems()]
    _write(tmp_path, "weighted", [*frozen, "w:2.5 eml x1 1"])
    batches, excluded = training_exclusions(config)
    held_out = next(batch for batch in batches if int(size(batch.tokens).max()) >= EXCLUDE_FROM_SIZE)
    large = size(held_out.tokens) >= EXCLUDE_FROM_SIZE
    keys = weighted_keys(held_out.tokens[large], held_out.constants[large])
    assert bool((torch.isin(keys, excluded) | (keys == -1)).all())
    for batch in ExampleStream(config, seed=0, excluded_keys=excluded).make_pool(0):
        assert {kinds for kinds, _ in _programs(batch)} == {tuple(from_text("w:2.5 eml x1 1")[0].tolist())}
    _write(tmp_path / "only", "weighted", frozen)
    useless = ExampleStream(replace(config, corpus=str(tmp_path / "only")), seed=0, excluded_keys=excluded)
    with pytest.raises(UserError, match=r"no program of the corpus in .* can be trained on"):
        useless.make_pool(0)


def test_programs_beyond_the_limits_are_skipped(law: Law, tmp_path: Path) -> None:
    large = "eml eml eml eml eml x1 1 1 1 1 1"
    _write(tmp_path, "exact", ["eml x1 1", "eml x2 x1", large])
    config = law("exact", max_nodes=3, max_depth=3, corpus=str(tmp_path))
    rows = {tuple(k for k in row if k) for b in ExampleStream(config, seed=0).make_pool(0) for row in b.tokens.tolist()}
    assert rows == {tuple(from_text("eml x1 1")[0].tolist())}


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_broken_programs_are_refused(grammar: str, law: Law, tmp_path: Path) -> None:
    config = law(grammar, corpus=str(tmp_path))
    schema = pa.schema(list(COLUMNS[grammar].items()))

    def read(**row: Any) -> None:
        columns = {"tokens": [[1, 7, 3]], "constants": [[]], "n_variables": [1]} | {k: [v] for k, v in row.items()}
        table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
        pq.write_table(table, tmp_path / "programs.parquet")
        StoredPrograms(config, _All(), seed=0).draw(1, torch.Generator())

    read()
    for tokens in ([1, 7], [1, 7, 3, 3], [], [1, 7, 8]):
        with pytest.raises(UserError, match="program 0 is not one complete expression in its variables"):
            read(tokens=tokens)
    if grammar == "weighted":
        for constants in ([], [1.0, 2.0], [float("nan")], None):
            with pytest.raises(UserError, match="program 0 does not have one finite constant for each"):
                read(tokens=[5, 7], constants=constants)


def test_fewer_programs_than_processes(law: Law, tmp_path: Path) -> None:
    _write(tmp_path, "exact", ["eml x1 1"])
    with pytest.raises(UserError, match="has 1 programs, fewer than the 2 processes"):
        StoredPrograms(law("exact", corpus=str(tmp_path)), _All(), seed=0, rank=0, n_ranks=2)
