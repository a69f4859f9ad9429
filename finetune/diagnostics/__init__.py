"""How far a law is to be trusted: noise, rows apart, and what lies outside the data."""
