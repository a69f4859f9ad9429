"""Programs from a stored corpus (see `folder`), as a source for the stream.

What is stored are programs, not data: whoever trains on them draws points, noise and irrelevant variables afresh. What is
read may come from anybody. Its form is checked, and it passes `Admission` as every program does, so that what is held
out for evaluation stays out.

Legend: b batch, l token position.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.drawing import Admission, Drawn, with_irrelevant_variables
from emlinit.generator.corpus.folder import open_corpus
from emlinit.generator.errors import UserError
from emlinit.generator.grammar import MAX_VARIABLES, X1, C, J, W, is_complete

_ORDER = 7
"""Keeps the order of a corpus apart from other uses of the same seed."""


class StoredPrograms:
    """The programs of a folder, in an order that a seed decides, another one each epoch.

    `n_read` is the whole state: it may be set, and reading goes on from there.
    """

    def __init__(
        self, config: StreamConfig, admission: Admission, *, seed: int, rank: int = 0, n_ranks: int = 1
    ) -> None:
        """Open the folder `config.corpus`.

        Args:
            config: grammar and limits.
            admission: what may be trained on.
            seed: decides the order.
            rank: number of the process; it reads every `n_ranks`-th program of the common order.
            n_ranks: number of processes.

        Raises:
            UserError: no such folder, no corpus in it, a damaged one, one of the other grammar, or fewer programs than
                processes.
        """
        self.config, self._admission = config, admission
        self.sha256 = ""
        """Hash of all its files, in order of their names."""
        self.n_read = 0
        """Programs read so far by this rank, over all epochs."""
        self._place = f"the corpus in '{config.corpus}'"
        self._table, self.sha256 = open_corpus(config.corpus, config.grammar)
        self._seed, self._rank, self._n_ranks = seed, rank, n_ranks
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))
        if len(self._table) < n_ranks:
            raise UserError(f"{self._place} has {len(self._table)} programs, fewer than the {n_ranks} processes")

    def __len__(self) -> int:
        """Programs in the whole corpus."""
        return len(self._table)

    def draw(self, n_rows: int, generator: torch.Generator) -> Drawn:
        """Read the next `n_rows` programs; those that may be trained on.

        Raises:
            UserError: one of them is no program of the grammar.
        """
        drawn = self.read(self._next(n_rows))
        config = self.config
        known = drawn.rows(~drawn.variable_mask[:, config.max_variables :].any(-1))
        drawn = Drawn(known.tokens, known.constants, known.variable_mask[:, : config.max_variables])
        if config.grammar == "weighted":
            drawn = with_irrelevant_variables(drawn, config.irrelevant_share, generator)
        return self._admission(drawn)

    def read(self, index: Sequence[int]) -> Drawn:
        """Some programs by their numbers, as they are stored; the mask is that of all `MAX_VARIABLES` variables.

        Raises:
            UserError: one of them is no program of the grammar.
        """
        table: pa.Table = self._table[list(index)]
        tokens = _padded(table["tokens"])
        is_constant = np.isin(tokens, (C, W, J))
        constants = np.zeros(tokens.shape)
        if "constants" in table.column_names:
            column = table["constants"].combine_chunks()
            wrong = pc.list_value_length(column).to_numpy(zero_copy_only=False) != is_constant.sum(-1)
            values = column.flatten().to_numpy(zero_copy_only=False)
            if wrong.any() or not np.isfinite(values).all():
                first = index[int(wrong.argmax())]
                raise UserError(
                    f"{self._place} is damaged: program {first} does not have one finite constant for each c, w, j"
                )
            constants[is_constant] = values
        n_variables = table["n_variables"].to_numpy().astype(np.int64)
        last_used = np.maximum(tokens.max(-1, initial=0) - X1 + 1, 0)
        tokens_t = torch.from_numpy(tokens)
        right = is_complete(tokens_t, MAX_VARIABLES).numpy() & (last_used <= n_variables)
        if not right.all():
            first = index[int((~right).argmax())]
            raise UserError(
                f"{self._place} is damaged: program {first} is not one complete expression in its variables"
            )
        mask = np.arange(MAX_VARIABLES) < n_variables[:, None]
        return Drawn(tokens_t, torch.from_numpy(constants), torch.from_numpy(mask))

    def _next(self, n_rows: int) -> list[int]:
        """Numbers of the next programs; an epoch may end among them."""
        index: list[int] = []
        n_own = len(range(self._rank, len(self._table), self._n_ranks))
        while n_rows:
            epoch, start = divmod(self.n_read, n_own)
            if self._order[0] != epoch:
                order = np.random.default_rng([self._seed, _ORDER, epoch]).permutation(len(self._table))
                self._order = (epoch, order[self._rank :: self._n_ranks])
            part = self._order[1][start : start + n_rows].tolist()
            index += part
            self.n_read += len(part)
            n_rows -= len(part)
        return index


def _padded(column: pa.ChunkedArray) -> np.ndarray:
    """Lists as an int64 matrix, zeros on the right."""
    lists = column.combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    inside = np.arange(max(lengths.max(initial=0), 1)) < lengths[:, None]
    matrix = np.zeros(inside.shape, dtype=np.int64)
    matrix[inside] = lists.flatten().to_numpy(zero_copy_only=False)
    return matrix
