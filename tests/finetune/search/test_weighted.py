"""What comes before the rounds of the weighted search, sparse sums and the lookup: what they find, and that each can be
left out."""

import time

import pytest
import torch

from emlinit.finetune.search.candidates import CandidatePool
from emlinit.finetune.search.rounds import NetworkRounds
from emlinit.finetune.search.schedule import run_in_order
from emlinit.finetune.search.stages import Task
from emlinit.finetune.search.weighted import stages_without_network
from emlinit.finetune.search.weighted_stage import WeightedSearchConfig
from emlinit.finetune.sparse.laws import SparseConfig
from emlinit.generator.functions.table import FunctionTable, build_table
from emlinit.model.initialiser import EMLInitialiser, InitialiserConfig

NO_SPARSE = WeightedSearchConfig(sparse=False, shapes=False)


@pytest.fixture(scope="module")
def initialiser() -> EMLInitialiser:
    """Never trained, and never asked where there are no rounds."""
    config = InitialiserConfig(grammar="weighted", d_model=16, n_heads=2, n_inducing=4, n_latents=3, n_decoder_layers=1)
    return EMLInitialiser(config, torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def table() -> FunctionTable:
    return build_table(2, 3)


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = 0.5 + 1.5 * torch.rand(160, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x, 2.5 / (1.0 + 0.3 * x[:, 0].exp() + 0.7 * x[:, 1].log())


def _search(
    initialiser: EMLInitialiser,
    data: tuple[torch.Tensor, torch.Tensor],
    table: FunctionTable | None,
    *,
    seconds: float = 60.0,
    config: WeightedSearchConfig | None = None,
) -> tuple[CandidatePool, list[str], torch.Tensor]:
    remarks: list[str] = []
    task = Task(
        *data,
        CandidatePool(100),
        deadline=time.monotonic() + seconds,
        generator=torch.Generator().manual_seed(1),
        sampler=initialiser,
        table=table,
        max_rounds=0,
        progress=remarks.append,
    )
    config = config or WeightedSearchConfig()
    run_in_order([*stages_without_network(config), NetworkRounds(config)], task)
    return task.pool, remarks, task.generator.get_state()


def test_the_lookup_finds_an_exact_law_before_any_round(
    initialiser: EMLInitialiser, data: tuple[torch.Tensor, torch.Tensor], table: FunctionTable
) -> None:
    pool, remarks, state = _search(initialiser, data, table, config=NO_SPARSE)
    assert pool.best_loss < 1e-18
    assert len(remarks) == 1
    assert remarks[0].startswith("lookup: best relative error")
    without, no_remarks, other_state = _search(initialiser, data, None, config=NO_SPARSE)
    assert without.best_loss > 1e-6
    assert no_remarks == []
    assert torch.equal(state, other_state)  # the rounds draw the same with and without a table


def test_both_can_be_switched_off_and_keep_to_the_deadline(
    initialiser: EMLInitialiser, data: tuple[torch.Tensor, torch.Tensor], table: FunctionTable
) -> None:
    for pool, remarks, _ in (
        _search(initialiser, data, table, config=WeightedSearchConfig(lookup=False, sparse=False, shapes=False)),
        _search(initialiser, data, table, seconds=-1.0),
    ):
        assert pool.best_loss > 1e-6
        assert remarks == []


def test_sparse_sums_come_first_and_an_exact_one_ends_the_search(
    initialiser: EMLInitialiser, data: tuple[torch.Tensor, torch.Tensor], table: FunctionTable
) -> None:
    x, _ = data
    sparse = (x, 1.5 * x[:, 0] ** 2 / x[:, 1] - 0.4 * x[:, 1])
    pool, remarks, state = _search(initialiser, sparse, table)
    assert pool.best_loss < 1e-24
    assert [remark.split(":")[0] for remark in remarks] == ["sparse sums"]
    _, remarks, other_state = _search(initialiser, sparse, table, config=NO_SPARSE)
    assert [remark.split(":")[0] for remark in remarks] == ["lookup"]
    assert torch.equal(state, other_state)  # nothing random in them


def test_the_lookup_is_asked_what_no_sparse_sum_explains(
    initialiser: EMLInitialiser, data: tuple[torch.Tensor, torch.Tensor], table: FunctionTable
) -> None:
    x, _ = data
    noise = torch.rand(len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    quick = WeightedSearchConfig(shapes=False, sparse_config=SparseConfig(points=24))
    pool, remarks, _ = _search(initialiser, (x, noise), table, config=quick)
    kinds = [remark.split(":")[0] for remark in remarks]
    assert kinds == ["sparse sums"] * (len(kinds) - 1) + ["lookup"]
    assert len(kinds) > 1
    assert pool.best_loss > 0.1


def test_shapes_follow_sums_of_monomials_and_a_law_of_few_constants_ends_the_search(
    initialiser: EMLInitialiser, table: FunctionTable
) -> None:
    year = torch.linspace(1961, 2020, 60, dtype=torch.float64)
    x = torch.stack([year, torch.ones_like(year)], 1)
    pool, remarks, _ = _search(initialiser, (x, 85 / (1 + (-0.31 * (year - 1996)).exp())), table)
    assert [remark.split(":")[0] for remark in remarks] == ["sparse sums", "known shapes"]
    assert pool.best_loss < 1e-18
    assert pool.holds_law
    alone, remarks, _ = _search(initialiser, (x, year * 3.0), table, config=WeightedSearchConfig(sparse=False))
    assert remarks == []  # the simplest laws know it
    assert alone.holds_law
