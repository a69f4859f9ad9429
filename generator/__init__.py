"""Grammars, programs, safe batched evaluation, the compiler, and the endless stream of training examples."""
