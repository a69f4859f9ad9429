"""Muon with all matrices of one shape orthogonalised together.

Muon (K. Jordan 2024; the update scaled to the size of AdamW's after Liu et al., arXiv 2502.16982) steps along the
momentum with all its singular values pulled towards 1, by five rounds of a Newton-Schulz iteration. torch.optim.Muon,
whose steps these are, goes from matrix to matrix: 23 small operations for each of some 60 matrices. Here those of one
shape are one batch, and a tall matrix is of the shape of its transpose, so that a network of ours has a handful of
batches.

torch iterates in bfloat16 everywhere; here it is float32 where that is faster (see `fastest_dtype`).

Legend: m matrix of a batch, r row (of the shorter axis), c column.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

MOMENTUM = 0.95
"""Decay of the average of gradients; Nesterov's form looks one step ahead."""
ROUNDS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_LEAST_NORM = 1e-7
_SIZE_OF_ADAMW = 0.2


class BatchedMuon(torch.optim.Optimizer):
    """`torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, matrices of one shape at a time."""

    def __init__(self, matrices: Iterable[Tensor], lr: float, weight_decay: float, dtype: torch.dtype) -> None:
        """Args:
        matrices: of two axes, all on one device, each with a gradient at every step.
        lr: learning rate.
        weight_decay: decoupled, as in AdamW.
        dtype: what the iteration is calculated in.
        """
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype
        self._batches: dict[tuple[int, int], list[Tensor]] = {}
        for matrix in sorted(self.param_groups[0]["params"], key=_is_tall):  # within a batch the tall ones come last
            rows, columns = sorted(matrix.shape)
            self._batches.setdefault((rows, columns), []).append(matrix)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step; there is no closure."""
        group = self.param_groups[0]
        matrices = [matrix for batch in self._batches.values() for matrix in batch]
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        momenta = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = iter(torch._foreach_lerp(gradients, momenta, MOMENTUM))
        steps: list[Tensor] = []
        for (_, columns), batch in self._batches.items():
            updates = [next(ahead) for _ in batch]
            wide = torch.stack([u.mT if _is_tall(u) else u for u in updates])
            size = -group["lr"] * _SIZE_OF_ADAMW * math.sqrt(columns)
            moves = size * orthogonalised(wide, self._dtype).to(wide.dtype)
            n_wide = len(batch) - sum(map(_is_tall, batch))
            # In the layout of the parameters: on a GPU the steps of all of them are then taken in one launch.
            steps += [*moves[:n_wide].unbind(), *moves[n_wide:].mT.contiguous().unbind()]
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(matrices, steps)


def fastest_dtype(device: torch.device) -> torch.dtype:
    """What to iterate in: bfloat16 where matrices of it are multiplied by the hardware, float32 elsewhere.

    A step of the default network, 63 matrices, on one core: with the matrix unit (AMX) 41 ms in bfloat16 and 108 ms in
    float32; with the vector unit for bfloat16 alone 160 and 117, with AVX-512 and no bfloat16 390 and 110, with AVX2
    2,360 and 111.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_matrix_unit = getattr(torch.cpu, "_is_amx_tile_supported", None)
        fast = has_matrix_unit is not None and bool(has_matrix_unit())
    return torch.bfloat16 if fast else torch.float32


def orthogonalised(matrices: Float[Tensor, "m r c"], dtype: torch.dtype) -> Float[Tensor, "m r c"]:
    """Matrices with the same singular vectors and singular values near 1, of type `dtype`.

    A matrix with singular values s in [0, 1] becomes one with p(s) in five rounds of p(s) = a s + b s^3 + c s^5. The
    coefficients are Jordan's: steep at 0, and from 0.7 to 1.2 in the end rather than 1, which serves as well.

    Args:
        matrices: r <= c.
        dtype: what to calculate in.
    """
    a, b, c = _COEFFICIENTS
    x = matrices.to(dtype)
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp_min(_LEAST_NORM)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[0] > matrix.shape[1]
