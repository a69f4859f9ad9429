"""Routing as logits: which choices a slot has, networks that relax them, Gumbel-hard training, the elites."""
