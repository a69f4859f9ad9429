"""A library of functions that laws may be made of: the terms of all slots of programs, whoever proposed them.

A proposal is seldom right as a whole, but its parts are: a term of a sum, a factor of a product, what a function is applied
to. In a program all of these are the same thing, a term of some slot.

Legend: b program, s slot, t term, p point, v input variable, n part.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Complex128, Float64, Int64
from torch import Tensor

from emlinit.finetune.growing.grafting import as_complex, values_of
from emlinit.generator.grammar import from_text, pad_sequences
from emlinit.generator.program import Programs, programs_from_tokens
from emlinit.generator.records import first_of_each
from emlinit.generator.tidy import drop_dead_nodes

ANGLE = -1
"""In place of a term: all terms of a slot that have imaginary factors, and its imaginary constant."""
_READOUT = -1  # the last slot, however many places for others there are
_DIGITS = 4  # of a part's values: two that agree so far are one
_LARGEST = 1e12  # modulus of a part's values
_VARIES = 1e-9  # relative to its size, from which a part is no constant
_POWERS = (-2.0, -1.0, -0.5, 0.5, 2.0, 3.0)
_LOGARITHMS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)  # their factors: as parts of an exponent they are powers
_RATES = (-4.0, -1.0, 1.0)  # of exponentials, over the largest value of the variable
_FREQUENCIES = (1.0, 2.0, 4.0, 8.0, 16.0)  # likewise


class PartLibrary:
    """Parts with their values at some points; the simple ones stay, of the others the newest."""

    def __init__(self, x: Float64[Tensor, "p v"], most: int) -> None:
        """Begin with the simple parts.

        Args:
            x: points.
            most: parts that are kept.
        """
        self.x, self._most = x, most
        self._programs = simple_parts(x)
        place, values = _terms(self._programs, x)
        first = _first_of_each_function(values)
        self._place, self.values, self._n_simple = place[first], values[first], len(first)

    values: Complex128[Tensor, "n p"]
    """Of each part, its factor included."""

    def __len__(self) -> int:
        return len(self._place)

    def add(self, programs: Programs) -> None:
        """Take in the parts of some programs, on any device."""
        if not len(programs):
            return
        programs = programs.to(self.x.device)
        place, values = _terms(programs, self.x)
        place[:, 0] += len(self._programs)
        simple, older = slice(None, self._n_simple), slice(self._n_simple, None)
        place = torch.cat([self._place[simple], place, self._place[older]])
        values = torch.cat([self.values[simple], values, self.values[older]])
        first = _first_of_each_function(values)[: self._most]
        place, self.values = place[first], values[first]
        owners, owner = torch.unique(place[:, 0], return_inverse=True)
        self._programs = Programs.cat([self._programs, programs])[owners]
        self._place = torch.cat([owner[:, None], place[:, 1:]], 1)
        self._n_simple = int((first < self._n_simple).sum())

    def programs(self, rows: Int64[Tensor, " b"], factor: Float64[Tensor, " b"]) -> Programs:
        """Parts as programs of their own, multiplied by real numbers; how much of a part there is may be fitted."""
        owner, slot, term = self._place[rows].T
        programs, b = self._programs.rows(owner), torch.arange(len(rows), device=rows.device)
        is_angle = (term == ANGLE)[:, None]
        source, weight, free = (getattr(programs, name)[b, slot] for name in ("source", "weight", "free_weight"))
        terms = torch.arange(source.shape[1], device=rows.device)
        taken = torch.where(is_angle, weight[..., 1] != 0, terms == term[:, None])
        free = free | (~is_angle[..., None] & torch.tensor([True, False], device=rows.device))
        imaginary = torch.tensor([False, True], device=rows.device)
        parts = {
            "source": torch.where(taken, source, 0),
            "weight": torch.where(taken[..., None], weight * factor[:, None, None], 0.0),
            "free_weight": free & taken[..., None],
            "bias": torch.where(is_angle & imaginary, programs.bias[b, slot] * factor[:, None], 0.0),
            "free_bias": programs.free_bias[b, slot] & is_angle & imaginary,
        }
        for name, readout in parts.items():
            parts[name] = torch.cat([getattr(programs, name)[:, :-1], readout[:, None]], 1)
        return drop_dead_nodes(replace(programs, **parts))


def simple_parts(x: Float64[Tensor, "p v"]) -> Programs:
    """Powers, logarithms, exponentials and angles of each variable, and products and quotients of two: one term each."""
    texts = []
    for i, largest in enumerate(x.abs().amax(0).clamp_min(1e-300).tolist(), 1):
        texts.append(f"w:1.0 x{i}")
        texts += [_monomial({i: power}) for power in _POWERS]
        texts += [f"w:{factor} eml 1 x{i}" for factor in _LOGARITHMS]
        texts += [f"w:{rate / largest} x{i}" for rate in _RATES]
        texts += [f"w:1.0 eml w:{rate / largest} x{i} 1" for rate in _RATES]
        texts += [f"j:{frequency / largest} x{i}" for frequency in _FREQUENCIES]
        texts += [_monomial({i: 1.0, k: power}) for k in range(i + 1, x.shape[1] + 1) for power in (1.0, -1.0)]
    tokens, constants = pad_sequences([from_text(text) for text in texts])
    return programs_from_tokens(tokens, constants, x.shape[1]).to(x.device)


def _monomial(powers: Mapping[int, float]) -> str:
    """A product of powers; as ln x is e - eml(1, x), the logarithms leave a factor."""
    logarithms = [f"w:{-power} eml 1 x{i}" for i, power in powers.items()]
    factor = math.exp(math.e * sum(powers.values()))
    return f"w:{factor} eml {'+ ' * (len(logarithms) - 1)}{' '.join(logarithms)} 1"


def _terms(programs: Programs, x: Tensor) -> tuple[Int64[Tensor, "n 3"], Complex128[Tensor, "n p"]]:
    """Places (program, slot, term) and values of all terms that vary, of slots in use."""
    value, _ = values_of(programs, x)
    weight = as_complex(programs.weight)
    place = torch.arange(programs.source.shape[1], device=x.device)
    in_use = place < 2 * programs.n_nodes[:, None]
    in_use[:, -1] = True
    used = programs.used_terms() & in_use[..., None]
    is_angle = used & (weight.imag != 0)
    row, slot, term = (used & ~is_angle & (programs.source > 0)).nonzero(as_tuple=True)
    values = weight[row, slot, term, None] * value[row, programs.source[row, slot, term]]
    places = torch.stack([row, slot, term], 1)
    row, slot = is_angle.any(-1).nonzero(as_tuple=True)
    factor = torch.where(is_angle[row, slot], weight[row, slot], 0.0)
    angle = (factor[..., None] * value[row[:, None], programs.source[row, slot]]).sum(1)
    angle = angle + 1j * programs.bias[row, slot, 1, None]
    values = torch.cat([values, angle])
    places = torch.cat([places, torch.stack([row, slot, torch.full_like(row, ANGLE)], 1)])
    places[places[:, 1] == programs.source.shape[1] - 1, 1] = _READOUT
    fine = (values.isfinite() & (values.abs() < _LARGEST)).all(1)
    fine &= (values - values[:, :1]).abs().amax(1) > _VARIES * values.abs().amax(1)
    return places[fine], values[fine]


def _first_of_each_function(values: Complex128[Tensor, "n p"]) -> Int64[Tensor, " m"]:
    """Rows, in order, the first of those whose values agree to some digits, as far as a few random sums can tell."""
    numbers = torch.view_as_real(values).flatten(1)
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(numbers.shape[1], 3, generator=generator, dtype=torch.float64).to(values.device)
    unit = 10.0 ** numbers.norm(dim=1, keepdim=True).clamp_min(1e-300).log10().floor()
    key = (numbers @ probes / unit * 10**_DIGITS / numbers.shape[1] ** 0.5).round()
    return first_of_each(torch.cat([key, unit], 1))
