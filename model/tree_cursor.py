"""Which slot does the next token fill? One cursor per sequence walks the expression in prefix order.

The same cursor masks the training logits, guides sampling and gives the decoder its structural inputs, so that the
grammar is written down once: `expected` (a nonterminal), which classes it allows, and what each token opens.

    exact       SLOT -> 1 | x_i | eml SLOT SLOT
    weighted    SLOT  -> c | TERM | + FIRST REST            a slot in normal form: a right-leaning sum,
                FIRST -> c | TERM                           its constant first, then its terms
                REST  -> TERM | + TERM REST
                TERM  -> ATOM | w ATOM | j ATOM
                ATOM  -> 1 | x_i | eml SLOT SLOT
    both        DONE  -> PAD

Legend: b batch, l token position, s open slot, k class.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.nn.functional import pad

from emlinit.generator.grammar import (
    EML,
    GRAMMARS,
    LEFT,
    ONE,
    PAD,
    PLUS,
    RIGHT,
    ROOT,
    X1,
    C,
    J,
    W,
    arity,
    slots_opened,
)
from emlinit.model.vocabulary import Vocabulary

DONE, SLOT, FIRST, REST, TERM, ATOM = range(6)
N_EXPECTED = 6
MAX_DEPTH = 15
"""Deepest eml depth told apart by the structural inputs; deeper slots look like this one."""
MAX_TERM = 7
"""Highest term number of a slot told apart by the structural inputs."""
PATH_LEVELS = 12
"""Levels from the root whose left/right choice the structural inputs tell."""


def allowed_classes(grammar: str, vocabulary: Vocabulary) -> Bool[Tensor, "s k"]:
    """Which class may fill which expected nonterminal, bool of shape (N_EXPECTED, n_classes).

    Raises:
        ValueError: `grammar` is neither `exact` nor `weighted`.
    """
    if grammar not in GRAMMARS:
        raise ValueError(f"unknown grammar '{grammar}': expected one of {', '.join(GRAMMARS)}")
    kind = vocabulary.kind_of_class()
    atom = (kind == ONE) | (kind >= X1) | (kind == EML)
    table = torch.zeros(N_EXPECTED, vocabulary.n_classes, dtype=torch.bool)
    table[DONE] = kind == PAD
    if grammar == "exact":
        table[SLOT] = atom
        return table
    term = atom | (kind == W) | (kind == J)
    table[ATOM] = atom
    table[TERM] = term
    table[REST] = term | (kind == PLUS)
    table[FIRST] = term | (kind == C)
    table[SLOT] = term | (kind == C) | (kind == PLUS)
    return table


@dataclass
class SlotView:
    """The slot that each sequence fills next; every field int64 of shape (b,) or, from `walk`, (b, l)."""

    expected: Tensor
    """Nonterminal to expand, `DONE` when nothing is open."""
    depth: Tensor
    """Eml nodes above this slot."""
    side: Tensor
    """`ROOT` for the readout, else which slot of its eml node: `LEFT` or `RIGHT`."""
    parent: Tensor
    """Token kind just above (`PAD` at the root)."""
    term: Tensor
    """Number of the term within its slot's sum."""
    path: Tensor
    """Left/right choices of the first `PATH_LEVELS` levels as base-3 digits (0 none, 1 left, 2 right)."""


_N_FIELDS = 6
_EXPECTED, _DEPTH, _SIDE, _PARENT, _TERM, _PATH = range(_N_FIELDS)


class TreeCursor:
    """A stack of open slots for each of `n_rows` sequences; the top of the stack is filled next."""

    def __init__(self, n_rows: int, max_open: int, device: torch.device | str = "cpu") -> None:
        """Start with one open slot, the readout; `max_open` slots fit (a sequence of l tokens opens at most l + 1)."""
        self.stack = torch.zeros(n_rows, max_open + 2, _N_FIELDS, dtype=torch.int64, device=device)
        self.stack[:, 1, _EXPECTED] = SLOT  # place 0 stays DONE: it is what an empty stack shows
        self.n_open = torch.ones(n_rows, dtype=torch.int64, device=device)
        self._rows = torch.arange(n_rows, device=device)
        self._powers = torch.tensor([3**level for level in range(PATH_LEVELS)] + [0], device=device)

    def top(self) -> Int64[Tensor, "b f"]:
        """All fields of the slot filled next, in the order of `SlotView`."""
        return self.stack[self._rows, self.n_open]

    def advance(self, kind: Int64[Tensor, " b"]) -> None:
        """Fill the top slot of each row with a token kind and open what that token opens; `PAD` changes nothing."""
        top = self.top()
        is_eml, is_plus, is_unary = kind == EML, kind == PLUS, (kind == W) | (kind == J)
        level = top[:, _DEPTH].clamp_max(PATH_LEVELS)
        digit = self._powers[level]
        in_slot = top.clone()  # what opens inside the same slot: operands of + and of a factor
        in_slot[:, _PARENT] = kind
        below = torch.zeros_like(top)
        below[:, _EXPECTED] = SLOT
        below[:, _DEPTH] = top[:, _DEPTH] + 1
        below[:, _PARENT] = EML

        first_opened = torch.where(is_eml[:, None], below, in_slot)  # filled first: left operand or the only one
        first_opened[:, _SIDE] = torch.where(is_eml, LEFT, top[:, _SIDE])
        first_opened[:, _PATH] = top[:, _PATH] + torch.where(is_eml, digit, 0)
        of_sum = torch.where(top[:, _EXPECTED] == SLOT, FIRST, TERM)
        first_opened[:, _EXPECTED] = torch.where(is_eml, SLOT, torch.where(is_plus, of_sum, ATOM))

        second_opened = torch.where(is_eml[:, None], below, in_slot)
        second_opened[:, _SIDE] = torch.where(is_eml, RIGHT, top[:, _SIDE])
        second_opened[:, _PATH] = top[:, _PATH] + torch.where(is_eml, 2 * digit, 0)
        second_opened[:, _EXPECTED] = torch.where(is_eml, SLOT, REST)
        second_opened[:, _TERM] = torch.where(is_eml, 0, top[:, _TERM] + 1)

        binary = is_eml | is_plus
        here, above = self.n_open, (self.n_open + 1).clamp_max(self.stack.shape[1] - 1)
        # A leaf pops (the place keeps its old content, which is never read again); a unary replaces; a binary pushes.
        replaced = torch.where(binary[:, None], second_opened, torch.where(is_unary[:, None], first_opened, top))
        self.stack[self._rows, here] = replaced
        pushed = torch.where(binary[:, None], first_opened, self.stack[self._rows, above])
        self.stack[self._rows, above] = pushed
        leaf = (kind != PAD) & ~binary & ~is_unary
        self.n_open = self.n_open + binary.long() - leaf.long()

    def view(self) -> SlotView:
        """The slot filled next, of every row."""
        return _as_view(self.top())

    def select(self, rows: Int64[Tensor, " r"]) -> None:
        """Keep (or repeat) the given rows."""
        self.stack = self.stack[rows]
        self.n_open = self.n_open[rows]
        self._rows = torch.arange(len(rows), device=self.stack.device)


def _as_view(fields: Tensor) -> SlotView:
    expected, depth, side, parent, term, path = fields.unbind(-1)
    return SlotView(expected, depth, side, parent, term, path)


def walk(tokens: Int64[Tensor, "b l"]) -> SlotView:
    """The slot that each token of whole sequences fills; every field int64 of shape (b, l).

    The same as a cursor that goes from token to token, in a number of operations that grows with log l. With the open slots
    before a token as its height, the token's parent is the nearest earlier one that is not higher: what stands between
    belongs to the parent's first operand. What is added up on the way from the root (levels, terms, the path) is added up
    by pointer doubling: in each round every token takes over what its ancestor has gathered and looks twice as far.

    Sequences that break the grammar do not fail here: up to the first token that is not allowed the slots are right, so the
    mask (`allowed_classes`) shows that one; what follows it means nothing.
    """
    length = tokens.shape[1]
    opened = slots_opened(tokens)
    height = opened.cumsum(-1) - opened + 1
    # Column 0 stands for what holds the whole tree; token i is column i + 1 from here on, and "up" the column of its parent.
    kind = pad(tokens, (1, 0), value=PAD)
    level = pad(height, (1, 0))
    columns = torch.arange(length + 1, device=tokens.device).expand_as(kind)
    order = level.argsort(dim=1, stable=True)
    same_height = torch.zeros_like(columns).scatter(1, order[:, 1:], order[:, :-1])
    opens_one = pad(arity(tokens) > 0, (1, 0))
    follows = pad(opens_one[:, :-1], (1, 0))  # the token before takes this one as its first or only operand
    up = torch.where(follows, columns - 1, same_height)
    up[:, :2] = 0

    above = kind.gather(1, up)
    is_eml, is_plus, second = above == EML, above == PLUS, ~follows
    starts_slot = is_eml | (columns == 1)
    rounds = range(length.bit_length())
    ways, start = [up], torch.where(starts_slot, columns, up)
    for _ in rounds:
        ways.append(ways[-1].gather(1, ways[-1]))
        start = start.gather(1, start)  # the token that stands directly in the slot

    def gathered(own: Tensor) -> Tensor:
        for way, _ in zip(ways, rounds, strict=False):
            own = own + own.gather(1, way)
        return own

    depth = gathered(is_eml.long())
    terms = gathered((is_plus & second).long())
    power = 3 ** (depth - 1).clamp(0, PATH_LEVELS)
    side = torch.where(second, RIGHT, LEFT)
    path = gathered(torch.where(is_eml & (depth <= PATH_LEVELS), side * power, 0))
    within_sum = torch.where(second, REST, torch.where(starts_slot.gather(1, up), FIRST, TERM))
    expected = torch.where(starts_slot, SLOT, torch.where(is_plus, within_sum, ATOM))
    term = (terms - terms.gather(1, start)).clamp_min(0)  # below 0 only behind what is not allowed
    of_slot = torch.where(starts_slot & is_eml, side, ROOT).gather(1, start)
    fields = torch.stack([expected, depth, of_slot, above, term, path], dim=-1)[:, 1:]
    return _as_view(torch.where((height > 0)[..., None], fields, torch.zeros_like(fields)))
