"""The search: one strategy a grammar, and the pool of candidates that they fill."""
