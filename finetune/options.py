"""What is chosen before any work: known to the command line and the table reader without loading torch."""

GRAMMAR_CHOICES = ("auto", "exact", "weighted")
"""What a user may ask for: one of the grammars, or `auto`, which tries both."""
DEVICES = ("auto", "cpu", "cuda")
"""Devices that the network may run on; `auto` is the first CUDA device if there is one, else the CPU."""
MIN_ROWS = 3
"""Fewest rows of finite numbers from which a law is fitted."""
HEADER_CHOICES = ("auto", "yes", "no")
"""Whether a table's first line holds the names; `auto` looks at it."""
LARGEST_SIZE, SMALLEST_SIZE = 1e100, 1e-100
"""Largest |number| of a column, and least size that the largest of a column may have.

Beyond, powers and squares are no doubles; in any unit in use, such a number is a mark for a missing one.
"""
