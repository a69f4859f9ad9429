"""Which rule chooses the right form of law, and how often: thousands of small tables, every form fitted to each.

A search adds its own misses to those of the choice. Here there is none: all forms of `quick_fits` are fitted to each
table, the true one among them, and each rule of `choice_criteria` picks one. What is right depends on the rule alone, and
on what the rows can tell: with five rows and much noise nobody could know.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emlinit.benchmarks.laws.choice_criteria import CHOICE_CRITERIA, FittedForms
from emlinit.benchmarks.laws.quick_fits import CURVE_FORMS, MOST_CONSTANTS, quick_fit
from emlinit.finetune.fitting.prices import NATS_PER_NODE

STUDY_ROWS = ((4, 5), (6, 8), (9, 14), (15, 40), (41, 400))
"""Groups of tables: fewest and most rows."""
STUDY_NOISE = (0.0001, 0.001, 0.01, 0.05, 0.15, 0.3)
"""Standard deviation of the noise, as a share of that of y."""
NODE_PRICES = (1.0, 1.5, 2.0)
"""Nats a node that are tried."""
_SIMPLE, _SHARE = "c x^", 0.15  # these ten together are the law one and a half times as often as any other form


@dataclass(frozen=True)
class StudyTable:
    """One table, and what every rule picked for it."""

    rows: int
    """How many it has."""
    noise: float
    """A share of the spread of y."""
    law: str
    """The form that it was made from."""
    chosen: dict[str, list[str]]
    """By the names of `CHOICE_CRITERIA`: the form that is picked at each of `NODE_PRICES`; empty where every form costs
    infinitely much."""

    def outcome(self, rule: str, price: int) -> str:
        """`right`, or `short` or `long` if the form has fewer or more constants than the law, or `other`.

        Args:
            rule: one of `CHOICE_CRITERIA`.
            price: number of it in `NODE_PRICES`.
        """
        chosen = self.chosen[rule][price]
        if chosen == self.law:
            return "right"
        there, wanted = (CURVE_FORMS[name].n_constants if name else 0 for name in (chosen, self.law))
        return "other" if there == wanted else "short" if there < wanted else "long"


def draw_table(rng: np.random.Generator, rows: int, noise: float) -> tuple[str, np.ndarray, np.ndarray]:
    """A law that the rows could show, and its table.

    Args:
        rng: decides everything else.
        rows: points; the law has fewer constants than these.
        noise: standard deviation of what is added, over that of y.

    Returns:
        The name of its form, x of shape (p, v) in (0, 1], and y of shape (p,).
    """
    kinds = [name for name, form in CURVE_FORMS.items() if form.drawn is not None and form.n_constants < rows]
    weights = np.array([_SHARE if name.startswith(_SIMPLE) else 1.0 for name in kinds])
    name = str(rng.choice(kinds, p=weights / weights.sum()))
    form = CURVE_FORMS[name]
    x = np.stack([_column(rng, rows) for _ in range(form.n_variables)], 1)
    theta = np.array([_drawn(rng, low, high) for low, high in form.drawn or ()]).reshape(1, -1, 1)
    basis = form.basis(x, theta)[0]
    sizes = np.where(np.ptp(basis, axis=0) > 0, basis.std(axis=0), 1.0)
    beta = rng.choice([-1, 1], len(sizes)) * rng.uniform(*form.ratio, len(sizes)) / sizes
    y = basis @ beta
    spread = y.std() if np.ptp(y) > 0 else abs(y[0])
    return name, x, y + noise * spread * rng.standard_normal(rows)


def _column(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Values in (0, 1]: even, even in the logarithm, or anywhere; two columns must not go together."""
    low, spacing = rng.uniform(0.03, 0.3), rng.integers(3)
    if spacing == 2:
        return np.asarray(rng.uniform(low, 1, rows))
    return rng.permutation((np.linspace, np.geomspace)[spacing](low, 1, rows))


def _drawn(rng: np.random.Generator, low: int | float, high: int | float) -> float:
    """A constant that is no simple number and changes what it is in: an exponent of 0.02 is none."""
    while True:
        value = float(rng.uniform(low, high))
        if low * high > 0 or (abs(value) > 0.25 and abs(2 * value - round(2 * value)) > 0.2):
            return value


def fit_all(x: np.ndarray, y: np.ndarray) -> FittedForms:
    """Every form fitted to one table."""
    forms = list(CURVE_FORMS.values())
    fits = [quick_fit(form, x, y) if form.n_variables <= x.shape[1] else None for form in forms]
    return FittedForms(
        y,
        np.array([np.inf if fit is None else fit.squares for fit in fits]),
        np.array([np.inf if fit is None else fit.leave_one_out for fit in fits]),
        np.array([(0.0,) * MOST_CONSTANTS if fit is None else fit.information for fit in fits]),
        np.array([form.n_constants for form in forms]),
    )


def picked_forms(forms: FittedForms) -> dict[str, list[str]]:
    """What every rule picks, at each price of a node; see `StudyTable.chosen`."""
    names = list(CURVE_FORMS)
    nodes = np.array([form.nodes for form in CURVE_FORMS.values()])
    picked = {}
    for rule, criterion in CHOICE_CRITERIA.items():
        with np.errstate(all="ignore"):
            nats = criterion(forms)
        nats = np.where(np.isfinite(forms.squares) & np.isfinite(nats), nats, np.inf)
        lengths = [nats + price * nodes for price in NODE_PRICES]
        picked[rule] = [names[int(np.argmin(one))] if np.isfinite(one).any() else "" for one in lengths]
    return picked


def run_choice_study(n_tables: int, seed: int, progress: Callable[[], object] = lambda: None) -> list[StudyTable]:
    """Draw tables, groups of rows and levels of noise in turn, and let every rule choose.

    Args:
        n_tables: how many, >= 1.
        seed: of all of them, >= 0.
        progress: called after each.
    """
    tables = []
    for number in range(n_tables):
        rng = np.random.default_rng([seed, number])
        fewest, most = STUDY_ROWS[number % len(STUDY_ROWS)]
        noise = STUDY_NOISE[number // len(STUDY_ROWS) % len(STUDY_NOISE)]
        rows = round(float(np.exp(rng.uniform(np.log(fewest - 0.49), np.log(most + 0.49)))))
        name, x, y = draw_table(rng, rows, noise)
        tables.append(StudyTable(rows, noise, name, picked_forms(fit_all(x, y))))
        progress()
    return tables


def choice_tables(tables: Sequence[StudyTable]) -> str:
    """Markdown: shares of right forms by rows and by noise, and of those with too few and too many constants."""
    usual = NODE_PRICES.index(NATS_PER_NODE)
    groups = [[table for table in tables if low <= table.rows <= high] for low, high in STUDY_ROWS]
    groups += [[table for table in tables if table.noise == noise] for noise in STUDY_NOISE]
    columns = [f"{low}-{high} rows" for low, high in STUDY_ROWS] + [f"{100 * noise:g} %" for noise in STUDY_NOISE]
    rows = [
        [
            rule,
            *(_share(group, rule, usual, "right") for group in groups),
            *(_share(tables, rule, usual, outcome) for outcome in ("right", "short", "long", "other")),
        ]
        for rule in CHOICE_CRITERIA
    ]
    title = f"rule, {NATS_PER_NODE:g} nats a node"
    by_price = [
        [rule, *(_share(tables, rule, number, "right") for number in range(len(NODE_PRICES)))]
        for rule in CHOICE_CRITERIA
    ]
    return "\n\n".join(
        [
            _markdown([title, *columns, "all", "too short", "too long", "other"], rows),
            _markdown(["right, nats a node", *(f"{price:g}" for price in NODE_PRICES)], by_price),
        ]
    )


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _share(tables: Sequence[StudyTable], rule: str, price: int, outcome: str) -> str:
    is_so = [table.outcome(rule, price) == outcome for table in tables]
    return f"{100 * np.mean(is_so):.0f}" if is_so else "-"
