"""Command-line entry points: each parses its arguments, calls one function, and prints."""
