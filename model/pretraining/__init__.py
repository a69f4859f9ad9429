"""Pretraining: the loop, its configuration, and a state that resumes bit for bit."""
