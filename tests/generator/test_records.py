"""Records: rows, joining, choosing and moving do to every tensor, nested ones too, what they do to one."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from emlinit.generator.program import Programs
from emlinit.generator.records import Records, first_of_each


@dataclass(frozen=True, eq=False)
class _Inner(Records):
    flag: Tensor
    table: Tensor


@dataclass(frozen=True, eq=False)
class _Outer(Records):
    number: Tensor
    inner: _Inner
    unit: str = "m"


@dataclass(frozen=True, eq=False)
class _Pair(Records):
    number: Tensor
    programs: Programs


def _record(first: int, n: int, unit: str = "m") -> _Outer:
    number = torch.arange(first, first + n)
    return _Outer(number, _Inner(number % 2 == 0, number[:, None] * torch.tensor([1.0, 10.0])), unit)


def _numbers(record: _Outer) -> list[int]:
    """The rows of a record, all of whose tensors are of the same rows."""
    number = record.number
    assert torch.equal(record.inner.flag, number % 2 == 0)
    assert torch.equal(record.inner.table, number[:, None] * torch.tensor([1.0, 10.0]))
    assert record.inner.flag.dtype == torch.bool
    return number.tolist()


@pytest.mark.parametrize("index", [torch.tensor([4, 0, 4]), torch.arange(5) > 2, slice(1, 3), slice(0, 0)])
def test_rows_are_rows_of_every_tensor(index: Tensor | slice) -> None:
    record = _record(0, 5)
    assert _numbers(record.rows(index)) == torch.arange(5)[index].tolist()
    assert record.rows(index).unit == "m"


def test_records_are_joined_in_order() -> None:
    assert _numbers(_Outer.cat([_record(3, 2), _record(0, 0), _record(7, 1)])) == [3, 4, 7]


def test_what_is_no_tensor_must_agree() -> None:
    with pytest.raises(ValueError, match="_Outer: what is joined differs in unit"):
        _Outer.cat([_record(0, 1), _record(1, 1, "km")])
    with pytest.raises(ValueError, match="_Outer: there is nothing to join"):
        _Outer.cat([])


def test_one_record_where_the_mask_is_true_another_where_it_is_false() -> None:
    chosen = _record(0, 4).where(torch.tensor([True, False, False, True]), _record(10, 4))
    assert _numbers(chosen) == [0, 11, 12, 3]


def test_all_tensors_are_moved() -> None:
    moved = _record(0, 2).to("meta")
    assert {moved.number.device.type, moved.inner.flag.device.type, moved.inner.table.device.type} == {"meta"}


def test_rows_of_programs_keep_all_places_and_indexing_cuts_them() -> None:
    def program(n: int) -> Programs:
        s = 2 * n + 1
        return Programs(
            torch.zeros(1, s, 1, dtype=torch.int64),
            torch.zeros(1, s, 1, 2, dtype=torch.float64),
            torch.zeros(1, s, 2, dtype=torch.float64),
            torch.tensor([n]),
            1,
            torch.zeros(1, s, 1, 2, dtype=torch.bool),
            torch.zeros(1, s, 2, dtype=torch.bool),
        )

    both = Programs.cat([program(1), program(3)])
    assert both.rows(torch.tensor([0])).max_nodes == 3
    assert both[0].max_nodes == 1
    pairs = _Pair.cat([_Pair(torch.zeros(1), program(2)), _Pair(torch.ones(1), program(1))])  # padded as programs are
    assert pairs.programs.n_nodes.tolist() == [2, 1]
    assert pairs.programs.max_nodes == 2


def test_of_equal_rows_the_first_is_taken_in_order() -> None:
    keys = torch.tensor([[3, 1], [0, 2], [3, 1], [0, 2], [3, 0]])
    assert first_of_each(keys).tolist() == [0, 1, 4]
    assert first_of_each(keys.double()).tolist() == [0, 1, 4]
