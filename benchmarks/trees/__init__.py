"""benchmarks/trees: say here in one line what this room is for."""
