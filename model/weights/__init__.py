"""Weights on disk and on the Hub: saving, checking, loading."""
