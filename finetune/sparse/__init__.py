"""Sparse sums of simple functions through invertible transforms of the target: laws that need no network."""
