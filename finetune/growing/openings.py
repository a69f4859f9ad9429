"""What the slots of a weighted program lack: what each must hold, for the program's value to be y, less what it holds.

A node that has to be v gives what its arguments have to be, each given the other one,

    l = ln(v + ln r),        r = exp(exp(l) - v),

and a slot b + Σ w u gives what each of its sources has to be. So from the readout, which has to be y, down to the leaves
every slot gets its wanted values, as long as the way down is one: a node that several slots read has none.

Legend: b program, s slot, n tree node, t term, p point, v input variable.
"""

import torch
from jaxtyping import Bool, Complex128, Float64, Int64
from torch import Tensor

from emlinit.finetune.growing.grafting import as_complex, values_of
from emlinit.generator.node import log_branch_cut
from emlinit.generator.program import Programs

_REAL = 1e-9  # imaginary part, of the modulus, up to which a number counts as real
_LARGEST = 1e12  # modulus of what a slot may have to be


def slot_deficits(
    programs: Programs, x: Float64[Tensor, "p v"], y: Float64[Tensor, " p"]
) -> tuple[Float64[Tensor, "b s p"], Bool[Tensor, "b s p"]]:
    """What each slot of a law lacks, given all the rest of it, and where that is a real number.

    Args:
        programs: of real laws, their constants near what they should be.
        x: points.
        y: targets.

    Returns:
        What the slot has to hold less what it holds, 0 where nothing is known, and where something is. Of the readout, and
        of slots that are not in use, nothing is.
    """
    value, slots = values_of(programs, x)
    wanted = _wanted(programs, value, slots, y)
    known = _is_real(wanted) & _is_real(slots) & (wanted.abs() < _LARGEST)
    known[:, -1] = False  # the readout has to be y, which is no news
    place = torch.arange(known.shape[1], device=known.device)
    known &= (place < 2 * programs.n_nodes[:, None])[..., None]
    return torch.where(known, wanted.real - slots.real, 0.0), known


def _wanted(programs: Programs, value: Tensor, slots: Tensor, y: Tensor) -> Complex128[Tensor, "b s p"]:
    """What every slot has to be; NaN where there is no answer."""
    b, s, _ = programs.source.shape
    leaves = programs.n_variables + 1
    weight = as_complex(programs.weight)
    wanted = torch.full_like(slots, complex("nan"))
    wanted[:, -1] = y + 1j * slots[:, -1].imag
    slot, term, n_readers = _reader(programs)
    rows = torch.arange(b, device=value.device)
    for node in range(s // 2 - 1, -1, -1):
        by, place = slot[:, node], term[:, node]
        factor = weight[rows, by, place][:, None]
        own = value[:, leaves + node] + (wanted[rows, by] - slots[rows, by]) / factor
        own = torch.where((n_readers[:, node] == 1)[:, None], own, complex("nan"))
        left, right = slots[:, 2 * node], slots[:, 2 * node + 1]
        wanted[:, 2 * node] = log_branch_cut(own + log_branch_cut(right))
        wanted[:, 2 * node + 1] = torch.exp(torch.exp(left) - own)
    return wanted


def _reader(programs: Programs) -> tuple[Int64[Tensor, "b n"], Int64[Tensor, "b n"], Int64[Tensor, "b n"]]:
    """For each node the last slot and the term that read it, and how many do."""
    b, s, t = programs.source.shape
    leaves = programs.n_variables + 1
    used = programs.used_terms()
    in_use = torch.arange(s, device=used.device) < 2 * programs.n_nodes[:, None]
    in_use[:, -1] = True
    used &= in_use[..., None]
    read = torch.where(used, programs.source, 0).flatten(1)
    n_readers = torch.zeros(b, leaves + s // 2, dtype=torch.int64, device=used.device).scatter_add_(
        1, read, torch.ones_like(read)
    )
    last = torch.zeros(b, leaves + s // 2, dtype=torch.int64, device=used.device)
    last.scatter_reduce_(1, read, torch.arange(s * t, device=used.device).expand(b, -1), "amax", include_self=False)
    last = last[:, leaves:]
    return last // t, last % t, n_readers[:, leaves:]


def _is_real(number: Complex128[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
    """False for NaN and infinity."""
    return number.isfinite() & (number.imag.abs() <= _REAL * number.abs())
