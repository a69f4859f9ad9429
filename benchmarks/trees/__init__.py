"""Suites of exact trees, the ways to search for them, and the runs that compare these."""
