"""Random programs: samplers, canonical forms, points, the endless stream, and the frozen sets."""
