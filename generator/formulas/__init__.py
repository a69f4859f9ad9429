"""Formulas and programs: parsing, compiling into either grammar, reading back, simplifying."""
