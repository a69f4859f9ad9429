"""Suites of laws with constants and noise, the ways to search for them, rivals among them, and how a found law is
scored."""
