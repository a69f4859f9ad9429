"""The shipped weights: one folder per checkpoint with `model.safetensors`, `config.json` and a model card."""

from pathlib import Path

BUILTIN_DIR = Path(__file__).resolve().parent
"""Folder that holds the shipped checkpoints, one sub-folder each."""
