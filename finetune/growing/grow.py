"""Growing programs by parts: what one proposal got right goes where another one lacks it.

A program grows by a part T (see `parts`) in one of three ways:

    added        to any slot s. To first order it changes y by w · dy/ds · T, a column beside those of the constants. What
                 it has to make up for is the residual; or, where inverting the program tells what the slot lacks
                 (`openings`), that times dy/ds: then a part that is the missing one leaves nothing at all.
    multiplied   onto a term of the readout: added to the left slot of its node, exp(L + T) = exp(L) exp(T).
    exchanged    for a term of the readout, or for a factor of it.

What each would gain is linear algebra: the column less its projection on what is fitted already, beside what is lacking.
Tens of thousands are looked at in a tenth of a second; the best are built, to be fitted.

Legend: b program, s slot, t term, p point, k column, n part.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.finetune.fitting.packed import split_constants
from emlinit.finetune.growing.grafting import as_complex, grafted, values_of
from emlinit.finetune.growing.openings import slot_deficits
from emlinit.finetune.growing.parts import PartLibrary
from emlinit.generator.jacobian import value_and_jacobian
from emlinit.generator.program import Programs
from emlinit.generator.records import Records

_LARGEST = 1e12  # modulus of a column
_LEAST_LEFT = 1e-6  # of a column's squared norm, once what is fitted already is taken out of it
_LEAST_KNOWN = 0.97  # of the points, at which it must be known what a slot lacks
_PER_PLACE = 6  # parts that are tried in one place
_SPARE = 3  # programs that are built for each one wanted, as structures repeat
_OF_EACH_STRUCTURE = 2
_NOTHING = (-1, -1)


@dataclass(frozen=True)
class GrowingConfig:
    """How much is tried."""

    points: int = 128
    """Most rows at which columns are compared."""
    bases: int = 20
    """Most programs that grow."""
    most_cost: int = 38
    """Description cost up to which they do."""
    parts: int = 640
    """Size of the library."""
    candidates: int = 160
    """Programs that come of it."""


@dataclass(frozen=True, eq=False)
class _Moves(Records):
    """Ways to grow."""

    base: Int64[Tensor, " m"]
    """Which program."""
    slot: Int64[Tensor, " m"]
    """Which of its slots a part is added to."""
    part: Int64[Tensor, " m"]
    """Which part."""
    factor: Float64[Tensor, " m"]
    """What it is multiplied by."""
    dropped: Int64[Tensor, "m 2"]
    """Slot and term that make room for it; -1 for none."""
    error: Float64[Tensor, " m"]
    """Squared error that is expected."""


def grow(programs: Programs, library: PartLibrary, y: Float64[Tensor, " p"], n: int) -> Programs | None:
    """Programs that are likely to be better than those they come from; None if there are none.

    Args:
        programs: with fitted constants; each gives as many.
        library: parts, at the points of `y`.
        y: targets.
        n: most programs.
    """
    moves = [*_additions(programs, library, y), *_products(programs, library, y)]
    if not moves:
        return None
    found = _Moves.cat(moves)
    found = found.rows(found.error.argsort(stable=True))
    rank = torch.stack([(found.base == base).cumsum(0) for base in range(len(programs))])
    rank = rank.gather(0, found.base[None])[0]  # small programs grow as well as large ones
    found = found.rows(rank.argsort(stable=True)[: _SPARE * n])
    if not len(found.base):
        return None
    bases = programs.rows(found.base)
    rows = (found.dropped[:, 0] >= 0).nonzero()[:, 0]
    weight, free = bases.weight.clone(), bases.free_weight.clone()
    weight[rows, found.dropped[rows, 0], found.dropped[rows, 1]] = 0
    free[rows, found.dropped[rows, 0], found.dropped[rows, 1]] = False
    bases = replace(bases, weight=weight, free_weight=free)
    grown = grafted(bases, found.slot, library.programs(found.part, found.factor))
    return grown[_first_few_of_each_structure(grown)[:n]]


def _additions(programs: Programs, library: PartLibrary, y: Tensor) -> list[_Moves]:
    """Each part to each slot."""
    moves = []
    jacobian = value_and_jacobian(programs, library.x)
    linear, below = split_constants(programs)
    constants = torch.cat([linear.derivatives(jacobian), below.derivatives(jacobian)], 1)  # b k p
    slope = jacobian.d_bias.permute(0, 2, 3, 1)  # b s 2 p
    lack, known = slot_deficits(programs, library.x, y)
    for base in range(len(programs)):
        valid = jacobian.valid[base]
        fitted = _Fitted.of(constants[base], torch.where(valid, y - jacobian.value[base], 0.0))
        is_open = (known[base] | ~valid).double().mean(-1) >= _LEAST_KNOWN
        for slot in slope[base].flatten(1).any(-1).nonzero()[:, 0].tolist():
            columns = slope[base, slot, 0] * library.values.real + slope[base, slot, 1] * library.values.imag
            moves.append(fitted.best(columns, base, slot))
            if is_open[slot]:
                wanted = torch.where(known[base, slot], slope[base, slot, 0] * lack[base, slot], fitted.residual)
                if bool((wanted.abs() < _LARGEST).all()):
                    moves.append(fitted.beside(wanted).best(columns, base, slot))
    return moves


def _products(programs: Programs, library: PartLibrary, y: Tensor) -> list[_Moves]:
    """Each part onto a term of the readout, instead of it, or instead of one of its factors."""
    moves = []
    value, _ = values_of(programs, library.x)
    weight, used, source = as_complex(programs.weight), programs.used_terms(), programs.source
    readout, leaves = source.shape[1] - 1, programs.n_variables + 1
    exponential = library.values.exp()
    for base in range(len(programs)):
        own, factor = value[base], weight[base]
        terms = used[base, readout].nonzero()[:, 0].tolist()
        columns = {term: (factor[readout, term] * own[source[base, readout, term]]).real for term in terms}
        for term in terms:
            others = [columns[other] for other in terms if other != term]
            fitted = _Fitted.of(torch.stack([torch.ones_like(y), *others]), y)
            moves.append(fitted.best(library.values.real, base, readout, dropped=(readout, term)))
            node = int(source[base, readout, term]) - leaves
            left, right = 2 * node, 2 * node + 1
            if node < 0 or bool((used[base, right] & (source[base, right] > 0)).any()):
                continue  # no plain exponential
            factors = used[base, left].nonzero()[:, 0].tolist()
            for dropped in [_NOTHING, *((left, t) for t in factors if len(factors) > 1)]:
                rest = factor[readout, term] * own[leaves + node]
                if dropped != _NOTHING:
                    rest = rest * torch.exp(-factor[dropped] * own[source[base][dropped]])
                best = fitted.best((rest * exponential).real, base, left, dropped=dropped)
                moves.append(replace(best, factor=torch.ones_like(best.factor)))  # else it would be another function
    return moves


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What can be fitted already, and what is left then."""

    basis: Float64[Tensor, "p k"]
    """Orthonormal."""
    residual: Float64[Tensor, " p"]
    """Orthogonal to it."""

    @classmethod
    def of(cls, columns: Float64[Tensor, "k p"], target: Float64[Tensor, " p"]) -> "_Fitted":
        """What some columns leave of a target."""
        norm = columns.norm(dim=1, keepdim=True)
        fine = (columns.abs() < _LARGEST).all(1) & (norm[:, 0] > 0)
        q, r = torch.linalg.qr((columns[fine] / norm[fine]).T)
        basis = q[:, r.diagonal().abs() > _LEAST_LEFT]
        return cls(basis, torch.zeros_like(target)).beside(target)

    def beside(self, target: Float64[Tensor, " p"]) -> "_Fitted":
        """The same columns and another target."""
        return replace(self, residual=target - self.basis @ (self.basis.T @ target))

    def best(
        self, columns: Float64[Tensor, "n p"], base: int, slot: int, *, dropped: tuple[int, int] = _NOTHING
    ) -> _Moves:
        """The columns, each that of a part, by which the squared error falls most."""
        fine = (columns.abs() < _LARGEST).all(1)
        columns = torch.where(fine[:, None], columns, 0.0)
        norm = columns.square().sum(1)
        left = norm - (columns @ self.basis).square().sum(1)
        along = columns @ self.residual
        fine &= (left > _LEAST_LEFT * norm) & (norm > 0)
        gain = torch.where(fine, along.square() / left, -math.inf)
        gain, part = gain.topk(min(_PER_PLACE, len(gain)))
        gain, part = gain[gain.isfinite()], part[gain.isfinite()]
        full = torch.full_like
        return _Moves(
            full(part, base),
            full(part, slot),
            part,
            (along / left)[part],
            torch.tensor(dropped, device=part.device).expand(len(part), 2),
            self.residual.square().sum() - gain,
        )


def _first_few_of_each_structure(programs: Programs) -> Int64[Tensor, " m"]:
    """Rows, in order, without further ones that differ in their constants only."""
    source = torch.where(programs.used_terms(), programs.source, -1)
    shape = torch.cat([source.flatten(1), (programs.weight[..., 1] != 0).flatten(1)], 1)
    _, group = torch.unique(shape, dim=0, return_inverse=True)
    before = (group[:, None] == group).tril(-1).sum(1)
    rows: Int64[Tensor, " m"] = (before < _OF_EACH_STRUCTURE).nonzero()[:, 0]
    return rows
