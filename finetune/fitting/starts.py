"""Further starting points for constant fitting: random factors on the constants, and a ladder of frequencies.

A frequency is an imaginary weight below the readout (`exp(jωx)`), and the residual of a sine is full of local minima in
ω: half a period away from the truth no descent returns. So frequencies get their own grid of starts.

Legend: b batch (candidate), s slot, t term.
"""

import torch
from torch import Tensor

from emlinit.generator.errors import UserError
from emlinit.generator.program import Programs


def multi_start(
    programs: Programs,
    restarts: int,
    spread: float,
    frequency_factors: tuple[float, ...] = (),
    generator: torch.Generator | None = None,
) -> tuple[Programs, int]:
    """Copies of all candidates from different starts, start-major: copy i of candidate j stands at `i * b + j`.

    The first copy is the candidates as they are; then one for each frequency factor; then `restarts` with every free
    constant below the readout multiplied by exp(spread · normal).

    Returns:
        The copies and their number for each candidate.

    Raises:
        UserError: restarts are wanted and no generator is given.
    """
    if restarts and generator is None:
        raise UserError(f"{restarts} random restarts need a torch.Generator: pass generator=")
    copies = [programs]
    free_weight, free_bias = programs.free_weight.clone(), programs.free_bias.clone()
    free_weight[:, -1], free_bias[:, -1] = False, False
    for factor in frequency_factors:
        weight = programs.weight.clone()
        weight[..., 1] = torch.where(free_weight[..., 1], weight[..., 1] * factor, weight[..., 1])
        copies.append(programs.with_constants(weight, programs.bias))
    for _ in range(restarts):
        weight = _scatter(programs.weight, free_weight, spread, generator)
        bias = _scatter(programs.bias, free_bias, spread, generator)
        copies.append(programs.with_constants(weight, bias))
    return (Programs.cat(copies) if len(copies) > 1 else programs), len(copies)


def _scatter(value: Tensor, free: Tensor, spread: float, generator: torch.Generator | None) -> Tensor:
    noise = torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
    return torch.where(free, value * (spread * noise).exp(), value)
