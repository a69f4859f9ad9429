"""Slots and sources as Python objects: what `builder` computes with, and how they are written as tokens.

A slot is `bias + sum_k weight_k * source_k` with complex numbers; a source is a variable or a node, which in turn has a
left and a right slot. `Slot.spelling` is the slot normal form.
"""

from emlinit.generator.grammar import EML, ONE, PLUS, C, J, W

LONGEST_SPELLING = 20_000
"""Tokens. A tree repeats what a formula shares, so that a sine of a sine of a sine grows threefold with each of them."""


class Source:
    """A variable or a node. Equal nodes of one builder are one object."""

    __slots__ = ("constants", "is_positive", "is_real", "left", "order", "right", "tokens")

    def __init__(
        self, tokens: tuple[int, ...], constants: tuple[float, ...], left: "Slot | None", right: "Slot | None"
    ):
        self.tokens = tokens
        self.constants = constants
        self.left = left
        self.right = right
        self.order = (len(tokens), tokens, constants)
        self.is_real = True
        self.is_positive = False
        if left is not None and right is not None:
            self.is_real, self.is_positive = _node_signs(left, right)

    @property
    def exponent(self) -> "Slot | None":
        """The `u` of a node that is exp(u)."""
        return self.left if self.right is not None and self.right.is_one else None

    @property
    def log_argument(self) -> "Slot | None":
        """The `u` of a node that is e - ln(u)."""
        return self.right if self.left is not None and self.left.is_one else None


class Slot:
    """`bias + sum weight * source`, or, where `pending`, the real part of that. Terms are sorted by `Source.order`."""

    __slots__ = ("_spelling", "bias", "pending", "terms")

    def __init__(self, bias: complex, terms: tuple[tuple[Source, complex], ...], pending: bool = False):
        self.bias = bias
        self.terms = terms
        self.pending = pending
        self._spelling: tuple[tuple[int, ...], tuple[float, ...]] | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it reads nothing."""
        return not self.terms

    @property
    def is_one(self) -> bool:
        """Whether it is the constant 1."""
        return not self.terms and self.bias == 1

    @property
    def monomial(self) -> tuple[Source, complex] | None:
        """The only term, if there is no constant."""
        return self.terms[0] if len(self.terms) == 1 and self.bias == 0 else None

    @property
    def is_real(self) -> bool:
        """Known to be real wherever it is defined."""
        return self.bias.imag == 0 and all(w.imag == 0 and s.is_real for s, w in self.terms)

    @property
    def is_positive(self) -> bool:
        """Known to be real and not negative wherever it is defined."""
        if self.bias.imag != 0 or self.bias.real < 0:
            return False
        return all(w.imag == 0 and w.real > 0 and s.is_positive for s, w in self.terms)

    def spelling(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Tokens and constants of the slot in normal form.

        Raises:
            ArithmeticError: they are more than `LONGEST_SPELLING`.
        """
        if self._spelling is None:
            self._spelling = self._spell()
        return self._spelling

    def _spell(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        bias = self.bias
        if not self.terms and bias.imag == 0:
            return ((ONE,), (0.0,)) if bias.real == 1 else ((C,), (bias.real + 0.0,))  # + 0.0: no negative zero
        items: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
        if bias.real != 0:
            items.append(((C,), (bias.real,)))
        if bias.imag != 0:
            items.append(((J, ONE), (bias.imag, 0.0)))
        for source, weight in self.terms:
            if weight.real == 1:
                items.append((source.tokens, source.constants))
            elif weight.real != 0:
                items.append(((W, *source.tokens), (weight.real, *source.constants)))
            if weight.imag != 0:
                items.append(((J, *source.tokens), (weight.imag, *source.constants)))
        tokens: list[int] = []
        constants: list[float] = []
        last = len(items) - 1
        for index, (kinds, values) in enumerate(items):
            if index < last:
                tokens.append(PLUS)
                constants.append(0.0)
            tokens.extend(kinds)
            constants.extend(values)
        if len(tokens) > LONGEST_SPELLING:
            raise ArithmeticError(f"it is longer than {LONGEST_SPELLING} tokens")
        return tuple(tokens), tuple(constants)

    def n_tokens(self) -> int:
        """Length of its spelling."""
        return len(self.spelling()[0])

    def size(self) -> int:
        """Eml nodes, repeated ones counted as often as they are written."""
        return self.spelling()[0].count(EML)


def _node_signs(left: Slot, right: Slot) -> tuple[bool, bool]:
    """What is known of exp(left) - ln(right) for real variables: (real, not negative).

    `exp(k ln a)` is real for real `a` and integer `k`, though ln a is not where `a` is negative.
    """
    if not right.is_one:
        return left.is_real and right.is_positive, False
    positive = True
    for source, weight in left.terms:
        if weight.imag != 0 or left.bias.imag != 0:
            return False, False
        if source.is_real:
            continue
        argument = source.log_argument
        if argument is None or not argument.is_real or not weight.real.is_integer():
            return False, False
        positive = positive and weight.real % 2 == 0
    return left.bias.imag == 0, positive and left.bias.imag == 0


ONE_SLOT = Slot(1 + 0j, ())
ZERO_SLOT = Slot(0j, ())


def distinct_nodes(slot: Slot) -> list[Source]:
    """The different nodes that a slot reads, each after those that it reads itself."""
    found: dict[Source, None] = {}

    def visit(inner: Slot) -> None:
        for source, _ in inner.terms:
            if source in found or source.left is None or source.right is None:
                continue
            visit(source.left)
            visit(source.right)
            found[source] = None

    visit(slot)
    return list(found)
