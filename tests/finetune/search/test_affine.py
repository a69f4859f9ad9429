"""Laws that the table gives away: written as programs whose value is y, and loosened ones that start there."""

import pytest
import torch

from emlinit.finetune.fitting.levenberg_marquardt import FitConfig, fit_constants
from emlinit.finetune.search.affine import AffineLookupConfig, hit_sequences, propose_affine, transforms_of
from emlinit.generator.evaluate import evaluate
from emlinit.generator.functions.correlation import StandardisedTable
from emlinit.generator.functions.table import FunctionTable, build_table
from emlinit.generator.grammar import PAD, is_complete
from emlinit.generator.program import programs_from_tokens


@pytest.fixture(scope="module")
def table() -> FunctionTable:
    return build_table(2, 3)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return 0.5 + 1.5 * torch.rand(100, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _laws(x: torch.Tensor) -> dict[str, torch.Tensor]:
    u, v = x[:, 0], x[:, 1]
    return {
        "a f + b": 2.5 * u.log() - 7.0,
        "exp(a f + b)": (0.7 * v.exp() - 2.0).exp(),
        "-exp(a f + b)": -((1.3 / u) + 0.2).exp(),
        "1/(a f + b)": 1 / (0.3 * u.exp() + 2.0),
        "sqrt(a f + b)": (2.0 * v.exp() + 0.5).sqrt(),
        "-(a f + b)**2": -((3.0 - 0.4 * u.exp().log() * 2.0) ** 2),
        "a f + a' g + b": 1.5 * u.exp() - 0.2 * v.log() + 1.0,
        "1/(a f + a' g + b)": 1 / (0.5 / u + 0.2 / v + 0.3),
        "a power law": 0.4 * u**2.3 * v**-0.7,
    }


@pytest.mark.parametrize("name", _laws(torch.ones(2, 2, dtype=torch.float64)))
def test_laws_of_each_kind_are_proposed_exactly(name: str, table: FunctionTable, x: torch.Tensor) -> None:
    y = _laws(x)[name]
    found = evaluate(propose_affine(table, x, y), x, rtol=None)
    error = torch.where(found.valid.all(1), (found.value - y).abs().amax(1), torch.inf)
    assert float(error.min()) < 1e-9 * float(y.abs().max())


def test_programs_have_the_value_that_the_hit_promises(table: FunctionTable, x: torch.Tensor) -> None:
    """Whatever the correlation: undoing g on the program's value gives a f + b (+ a' g)."""
    y = 2.0 + torch.rand(len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    functions = StandardisedTable(table, x)
    transforms = transforms_of(y)
    assert len(transforms) == 9
    targets = torch.stack([transform.value for transform in transforms])
    checked = 0
    for hits in (functions.best(targets, 6, per_size=1), functions.best_pairs(targets, 6)):
        for which, transform in enumerate(transforms):
            u = sum(
                hits.slope[which, :, n : n + 1] * _values(table, hits.row[which, :, n], x)
                for n in range(hits.row.shape[2])
            )
            u = u + hits.intercept[which, :, None]
            expected = {
                "affine": lambda u, t=transform: u,
                "exp": lambda u, t=transform: t.sign * u.exp(),
                "power": lambda u, t=transform: t.sign * u**t.parameter,
                "ln": lambda u, t=transform: t.offset + t.parameter * u.log(),
            }[transform.kind](u)
            for loose in (False, True):
                got = _evaluate(hit_sequences(table, transform, hits, which, loose=loose), x)
                defined = (u > 0).all(1) | (transform.kind in ("affine", "exp"))
                error = ((got.value - expected).abs() / expected.abs())[defined]
                assert got.valid[defined].all()
                assert float(error.max()) < 1e-7
                checked += int(defined.sum())
    assert checked > 150


def test_loosened_programs_have_more_to_fit_and_reach_what_the_hit_does_not(
    table: FunctionTable, x: torch.Tensor
) -> None:
    y = 3.0 * (-0.6 * x[:, 0]).exp() + 1.0
    functions = StandardisedTable(table, x)
    hits = functions.best(y[None], 12, per_size=3)
    transform = transforms_of(y)[0]
    losses, n_free = [], []
    for loose in (False, True):
        tokens, constants = hit_sequences(table, transform, hits, 0, loose=loose)
        programs = programs_from_tokens(*_closed(tokens, constants), 2)
        n_free.append(programs.n_free())
        losses.append(fit_constants(programs, x, y, config=FitConfig(steps=60)).mse)
    assert (n_free[1] >= n_free[0]).all()
    assert (n_free[1] > n_free[0]).sum() >= 9
    assert float(losses[0].min()) > 1e-8 > 1e-12 > float(losses[1].min())


def test_a_logarithm_is_not_singular_amid_the_points_at_the_start() -> None:
    x = torch.linspace(0.1, 6.0, 100, dtype=torch.float64)[:, None]
    y = 1.8 * (x[:, 0] + 0.4).log() + 0.5  # exp(y / sd) is best fitted by a line that is negative at the left
    table = build_table(1, 1)
    fit = fit_constants(propose_affine(table, x, y), x, y, config=FitConfig(steps=40))
    assert float(fit.mse.min()) < 1e-20


def test_only_defined_transforms_are_tried() -> None:
    mixed = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    assert [t.kind for t in transforms_of(mixed)] == ["affine", "power", "ln", "ln"]
    assert [t.kind for t in transforms_of(torch.cat([mixed, torch.zeros(1).double()]))] == ["affine", "ln", "ln"]
    negative = transforms_of(mixed - 5.0)
    assert {t.sign for t in negative if t.kind == "exp"} == {-1.0}
    assert all(t.value.isfinite().all() for t in transforms_of(mixed * 1e200))


def test_noise(table: FunctionTable, x: torch.Tensor) -> None:
    truth = 2.0 / (0.3 * x[:, 0].exp() + 1.0)
    noise = torch.randn(len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = truth + 0.01 * truth.std() * noise
    fit = fit_constants(propose_affine(table, x, y), x, y, config=FitConfig(steps=12))
    value = evaluate(fit.programs[fit.mse.argsort()[:10]], x, rtol=None).value
    error = (value - truth).square().mean(1).sqrt() / truth.std()
    assert float(error.min()) < 0.003


def test_programs_are_distinct_complete_and_finite(table: FunctionTable, x: torch.Tensor) -> None:
    y = x[:, 0].exp() * x[:, 1] + 5.0
    config = AffineLookupConfig(functions=5, per_size=1, pairs=3, unchanged=2)
    programs = propose_affine(table, x, y, config)
    assert 40 < len(programs) <= 3 + 9 * (5 + 2 + 3 + 2)
    assert bool(programs.weight.isfinite().all())
    assert bool(programs.bias.isfinite().all())
    assert (programs.n_free() > 0).all()
    again = propose_affine(table, x, y, config)
    assert torch.equal(programs.weight, again.weight)
    assert torch.equal(programs.source, again.source)


def test_a_table_of_fewer_variables_serves_the_first_columns(x: torch.Tensor) -> None:
    y = 2.0 * x[:, 0].log() + 3.0
    programs = propose_affine(build_table(1, 2), x, y)
    assert programs.n_variables == 2
    error = (evaluate(programs, x, rtol=None).value - y).abs().amax(1)
    assert float(error.min()) < 1e-10


def test_data_that_say_little(table: FunctionTable) -> None:
    few = torch.tensor([[1.0, 2.0], [2.0, -1.0], [3.0, 0.5]], dtype=torch.float64)
    for x, y in (
        (few, few[:, 0].square()),
        (torch.full((9, 2), -1.0, dtype=torch.float64), torch.arange(9).double()),  # no function varies
        (few, torch.full((3,), 2.0, dtype=torch.float64)),
    ):
        programs = propose_affine(table, x, y)
        assert len(programs) >= 1
        assert bool(evaluate(programs, x, rtol=None).valid.any())


def _values(table: FunctionTable, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    tokens = table.tokens_of(rows)
    programs = programs_from_tokens(tokens, torch.zeros(tokens.shape, dtype=torch.float64), x.shape[1])
    return evaluate(programs, x, rtol=None).value


def _closed(tokens: torch.Tensor, constants: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    order = (tokens == PAD).long().argsort(dim=1, stable=True)
    tokens = tokens.gather(1, order)
    assert bool(is_complete(tokens).all())
    return tokens, constants.gather(1, order)


def _evaluate(sequences: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor):  # type: ignore[no-untyped-def]
    return evaluate(programs_from_tokens(*_closed(*sequences), x.shape[1]), x, rtol=None)
