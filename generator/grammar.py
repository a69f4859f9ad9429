"""The two grammars as prefix token sequences: kinds, parsing, printing, depth and size.

    exact       S -> 1 | x_i | eml(S, S)                      eml(l, r) = exp(l) - ln(r)
    weighted    S -> ... | c | w*S | j*S | S + S              c, w, j: free real constant, real factor, imaginary factor

One vocabulary serves both: the exact grammar uses `eml`, `1` and the variables only. A sequence is a pair
`tokens` (int64 kinds) and `constants` (float64; the value at the positions of `c`, `w` and `j`, 0 elsewhere), padded at
the end with `PAD`. Source: A. Odrzywołek, "All elementary functions from a single binary operator" (arXiv 2603.21852).

Legend: b batch, l token position.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from emlinit.generator.errors import UserError

GRAMMARS = ("exact", "weighted")
"""Their names."""
PAD, EML, PLUS, ONE, C, W, J, X1 = range(8)
"""Token kinds; `X1` is the first variable, the others follow."""
ROOT, LEFT, RIGHT = range(3)
"""Where a subtree stands: the whole tree, or which child of its parent."""
MAX_VARIABLES = 5
"""Most variables that a program of ours may read; the initialiser's input has this many columns."""

_ARITY = {PAD: -1, EML: 2, PLUS: 2, ONE: 0, C: 0, W: 1, J: 1, X1: 0}
_NAMES = {EML: "eml", PLUS: "+", ONE: "1"}
_CONSTANT_NAMES = {C: "c", W: "w", J: "j"}
_CONSTANT_KINDS = {name: kind for kind, name in _CONSTANT_NAMES.items()}


def n_kinds(n_variables: int) -> int:
    """Number of token kinds, `PAD` included, with `n_variables` variables."""
    return X1 + n_variables


def arity(tokens: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
    """Operands that each token takes; -1 for `PAD`, which neither opens nor fills a slot."""
    return torch.tensor([_ARITY[kind] for kind in range(X1 + 1)], device=tokens.device)[tokens.clamp_max(X1)]


def slots_opened(tokens: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
    """How many more slots are open behind each token than before it: it fills one and opens one for each operand."""
    return torch.where(tokens == PAD, 0, arity(tokens) - 1)


def size(tokens: Int64[Tensor, "b l"]) -> Int64[Tensor, " b"]:
    """Number of eml nodes of each sequence."""
    return (tokens == EML).sum(-1)


def depth(tokens: Int64[Tensor, "b l"]) -> Int64[Tensor, " b"]:
    """Eml nodes on the longest path from the root; a bare leaf has depth 0.

    `+`, `w` and `j` do not count: they belong to the slot, not to the tree.
    """
    if not tokens.shape[1]:
        return tokens.new_zeros(len(tokens))
    # Each eml is above all positions of its own subtree: one more from its beginning on, one less from its end on.
    is_eml = (tokens == EML).long()
    end = torch.arange(tokens.shape[1], device=tokens.device) + subtree_lengths(tokens)
    above = torch.nn.functional.pad(is_eml, (0, 1)).scatter_add(1, end, -is_eml).cumsum(-1)
    return above.amax(-1)


def subtree_lengths(tokens: Int64[Tensor, "b l"]) -> Int64[Tensor, "b l"]:
    """Number of tokens of the expression that starts at each position; 0 at padding.

    An expression ends before the next position with fewer open slots than there are at its beginning. Slots are filled one
    at a time, so that this is the next position with one less: found by sorting positions by (open slots, position). What
    a sequence leaves open ends with the sequence.
    """
    n_rows, length = tokens.shape
    used = tokens != PAD
    opened = torch.nn.functional.pad(slots_opened(tokens), (1, 0)).int()
    opened[:, 0] = 1
    place = torch.arange(length + 1, dtype=torch.int32, device=tokens.device)
    keys = opened.cumsum(-1, dtype=torch.int32) * (length + 1) + place
    beyond = keys.new_full((n_rows, 1), torch.iinfo(torch.int32).max)
    ascending = torch.cat([keys, beyond], 1).sort(-1).values
    wanted = keys[:, :-1] - (length + 1)  # one slot less, at this position or later
    distance = ascending.gather(1, torch.searchsorted(ascending, wanted)) - wanted
    left = used.sum(-1, keepdim=True) - place[:-1]
    return torch.where(used, torch.minimum(distance, left), 0)


def to_text(tokens: Int64[Tensor, " l"], constants: Float64[Tensor, " l"]) -> str:
    """Print one sequence in prefix order, for example `+ c:0.5 w:-2.0 eml 1 x1`; `from_text` reads it back exactly."""
    words = []
    for kind, constant in zip(tokens.tolist(), constants.tolist(), strict=True):
        if kind == PAD:
            break
        if kind in _CONSTANT_NAMES:
            words.append(f"{_CONSTANT_NAMES[kind]}:{constant!r}")
        else:
            words.append(_NAMES.get(kind, f"x{kind - X1 + 1}"))
    return " ".join(words)


def from_text(text: str, n_variables: int = MAX_VARIABLES) -> tuple[Int64[Tensor, " l"], Float64[Tensor, " l"]]:
    """Read the text form of one sequence.

    Raises:
        UserError: an unknown word, a variable above `n_variables`, a constant that is no finite number, or a sequence
            that is not exactly one expression.
    """
    kinds: list[int] = []
    constants: list[float] = []
    for word in text.split():
        kind, constant = _parse_word(word, n_variables)
        kinds.append(kind)
        constants.append(constant)
    tokens = torch.tensor(kinds, dtype=torch.int64)
    if not kinds or not bool(is_complete(tokens[None], n_variables)[0]):
        raise UserError(f"'{text}' is not one complete expression: every eml and + needs two operands, w and j one")
    return tokens, torch.tensor(constants, dtype=torch.float64)


def _parse_word(word: str, n_variables: int) -> tuple[int, float]:
    for kind, name in _NAMES.items():
        if word == name:
            return kind, 0.0
    prefix, colon, number = word.partition(":")
    if colon and prefix in _CONSTANT_KINDS:
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise UserError(f"'{word}' needs a finite number after the colon")
        return _CONSTANT_KINDS[prefix], value
    if word.startswith("x") and word[1:].isdecimal():
        index = int(word[1:])
        if 1 <= index <= n_variables:
            return X1 + index - 1, 0.0
        raise UserError(f"variable '{word}' is outside x1..x{n_variables}")
    raise UserError(f"unknown word '{word}': expected eml, +, 1, c:VALUE, w:VALUE, j:VALUE or x1..x{n_variables}")


def is_complete(tokens: Int64[Tensor, "b l"], n_variables: int = MAX_VARIABLES) -> Tensor:
    """Whether each row is exactly one expression followed only by padding; bool of shape (b,)."""
    used = tokens != PAD
    open_slots = 1 + torch.cumsum(slots_opened(tokens), dim=-1)
    length = used.sum(-1)
    contiguous = used.long().cumprod(-1).sum(-1) == length
    still_open = torch.where(used, open_slots, 1)[:, :-1] if tokens.shape[1] > 1 else open_slots[:, :0]
    before_end = torch.arange(still_open.shape[1], device=tokens.device) < (length - 1)[:, None]
    whole = contiguous & (length > 0) & (open_slots[:, -1] == 0) & ((still_open > 0) | ~before_end).all(-1)
    return whole & (tokens < n_kinds(n_variables)).all(-1)


def pad_sequences(
    sequences: Sequence[tuple[Tensor, Tensor]],
) -> tuple[Int64[Tensor, "b l"], Float64[Tensor, "b l"]]:
    """Stack (tokens, constants) pairs of different lengths, padded at the end."""
    tokens = torch.nn.utils.rnn.pad_sequence([t for t, _ in sequences], batch_first=True, padding_value=PAD)
    constants = torch.nn.utils.rnn.pad_sequence([c for _, c in sequences], batch_first=True)
    return tokens, constants
