"""Classes of the decoder's one softmax: the kinds without a constant, and each constant kind times a coarse value.

A constant is one decoder step: kind, sign and logarithmic magnitude bin together. Bin centres are `10**(k/6)` from 1e-3
to 1e3 (so 1 and -1 are met exactly); a value is put into the nearest bin on the logarithmic scale, beyond the ends into
the last one. Predicted coarse values start constant fitting near the truth, as E2E's do (Kamienny et al., arXiv
2204.10532).

    class 0           PAD (only after a finished expression)
    1, 2, 3           eml, +, 1
    4 .. 3+v          the variables
    4+v ..            c, w, j, each as 37 positive then 37 negative bins

Legend: b batch, l token position, v input variable.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.generator.grammar import EML, MAX_VARIABLES, ONE, PAD, PLUS, X1, C, J, W, n_kinds

BINS_PER_DECADE = 6
DECADES = 3
N_BINS = 2 * DECADES * BINS_PER_DECADE + 1
"""Magnitude bins of one sign, centres 1e-3 .. 1e3."""
_PLAIN_KINDS, _CONSTANT_KINDS = (PAD, EML, PLUS, ONE), (C, W, J)  # in the order of their classes; PAD must be class 0


@dataclass(frozen=True)
class Vocabulary:
    """The classes for `n_variables` input columns; equal for both grammars, a mask keeps the exact one to its own."""

    n_variables: int = MAX_VARIABLES
    """Number of variable classes."""

    @property
    def first_constant(self) -> int:
        """Class id of the first constant bin."""
        return len(_PLAIN_KINDS) + self.n_variables

    @property
    def n_classes(self) -> int:
        """Number of classes, `PAD` included."""
        return self.first_constant + len(_CONSTANT_KINDS) * 2 * N_BINS

    @property
    def n_kinds(self) -> int:
        """Number of token kinds, `PAD` included."""
        return n_kinds(self.n_variables)

    def kind_of_class(self) -> Int64[Tensor, " k"]:
        """Token kind of each class, int64 of shape (n_classes,)."""
        variables = [X1 + i for i in range(self.n_variables)]
        constants = [kind for kind in _CONSTANT_KINDS for _ in range(2 * N_BINS)]
        return torch.tensor([*_PLAIN_KINDS, *variables, *constants])

    def value_of_class(self) -> Float64[Tensor, " k"]:
        """Constant (bin centre) that each class stands for, float64 of shape (n_classes,); 0 where it has none."""
        exponents = torch.arange(N_BINS, dtype=torch.float64) / BINS_PER_DECADE - DECADES
        centres = torch.pow(torch.tensor(10.0, dtype=torch.float64), exponents)
        values = torch.cat([centres, -centres]).repeat(len(_CONSTANT_KINDS))
        return torch.cat([torch.zeros(self.first_constant, dtype=torch.float64), values])

    def quantise(self, tokens: Int64[Tensor, "b l"], constants: Float64[Tensor, "b l"]) -> Int64[Tensor, "b l"]:
        """Class ids of token sequences; a constant goes to the nearest bin, a constant of exactly 0 to the smallest."""
        first_of_kind = {kind: number for number, kind in enumerate([*_PLAIN_KINDS, *range(X1, X1 + self.n_variables)])}
        for number, kind in enumerate(_CONSTANT_KINDS):
            first_of_kind[kind] = self.first_constant + number * 2 * N_BINS
        first_class = torch.tensor([first_of_kind[kind] for kind in range(self.n_kinds)], device=tokens.device)
        exponent = torch.log10(constants.abs().clamp(10.0**-DECADES, 10.0**DECADES))
        bins = torch.round((exponent + DECADES) * BINS_PER_DECADE).to(torch.int64)
        bins = bins + (constants < 0) * N_BINS
        classes = first_class[tokens]
        return torch.where(classes >= self.first_constant, classes + bins, classes)

    def dequantise(self, classes: Int64[Tensor, "b l"]) -> tuple[Int64[Tensor, "b l"], Float64[Tensor, "b l"]]:
        """Token kinds and constants (bin centres) of class ids; `quantise` gives the same classes back."""
        device = classes.device
        return self.kind_of_class().to(device)[classes], self.value_of_class().to(device)[classes]
