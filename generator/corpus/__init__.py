"""Random programs: samplers, supports, canonical forms, the endless stream, and the frozen sets."""
