"""Records of tensors that share their first dimensions: rows of a record, several joined, one chosen over another.

A subclass is a frozen dataclass. Its fields are tensors or such records, each with the batch first; anything else (a number
of variables, a flag) holds for the whole batch, stays as it is, and has to be equal in records that are joined.

    @dataclass(frozen=True, eq=False)
    class Points(Records):
        x: Float64[Tensor, "b v"]
        y: Float64[Tensor, " b"]

    Points.cat([first, second]).rows(slice(0, 10))

A record with padding, such as `Programs`, has a `cat` that pads first and then calls this one.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

R = TypeVar("R", bound="Records")


class Records:
    """Base of frozen dataclasses of tensors with a common batch."""

    def mapped(self: R, function: Callable[[Tensor], Tensor]) -> R:
        """The record with a function applied to each of its tensors."""
        return self._rebuilt(
            {
                name: value.mapped(function) if isinstance(value, Records) else function(value)
                for name, value in self._batched().items()
            }
        )

    def rows(self: R, index: Tensor | slice) -> R:
        """Some rows of the batch, by number or by a mask."""
        return self.mapped(lambda value: value[index])

    def to(self: R, device: torch.device | str) -> R:
        """The same record on another device."""
        return self.mapped(lambda value: value.to(device))

    def where(self: R, mask: Tensor, other: R) -> R:
        """This record where `mask` (of the shape of the batch) is true, another of the same shape where it is false."""
        return self._rebuilt(
            {
                name: value.where(mask, getattr(other, name))
                if isinstance(value, Records)
                else torch.where(mask.view(*mask.shape, *[1] * (value.dim() - mask.dim())), value, getattr(other, name))
                for name, value in self._batched().items()
            }
        )

    @classmethod
    def cat(cls: type[R], parts: Sequence[R]) -> R:
        """Join records, one below the other.

        Raises:
            ValueError: no record given, or records that differ in what is no tensor.
        """
        return cls._joined(parts, 0)

    @classmethod
    def _joined(cls: type[R], parts: Sequence[R], dim: int) -> R:
        if not parts:
            raise ValueError(f"{cls.__name__}: there is nothing to join")
        first = parts[0]
        batched = first._batched()
        differing = [
            name
            for name in vars(first)
            if name not in batched and any(getattr(part, name) != getattr(first, name) for part in parts)
        ]
        if differing:
            raise ValueError(f"{cls.__name__}: what is joined differs in {', '.join(differing)}")

        def join(column: list[Any]) -> Any:
            if not isinstance(column[0], Records):
                return torch.cat(column, dim)
            kind = type(column[0])
            return kind._joined(column, dim) if dim else kind.cat(column)  # which may pad

        return first._rebuilt({name: join([getattr(part, name) for part in parts]) for name in batched})

    def _batched(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor | Records)}

    def _rebuilt(self: R, batched: dict[str, Any]) -> R:
        values: dict[str, Any] = {**vars(self), **batched}
        return type(self)(**values)


def first_of_each(keys: Shaped[Tensor, "n k"]) -> Int64[Tensor, " m"]:
    """The first row of each distinct one of some rows, ascending."""
    _, group = torch.unique(keys, dim=0, return_inverse=True)
    place = torch.arange(len(keys), device=keys.device)
    first = torch.full_like(place, len(keys)).scatter_reduce(0, group, place, "amin")
    rows: Int64[Tensor, " m"] = (first[group] == place).nonzero()[:, 0]
    return rows
