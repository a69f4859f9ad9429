"""What a pretraining run says about itself: sums over a window of minibatches, and the lines of `metrics.jsonl`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emlinit.generator.errors import UserError
from emlinit.generator.files import write_atomically
from emlinit.generator.foreign import kind_of_path, open_regular, reason, shown
from emlinit.model.initialiser import Scores

METRICS_FILE = "metrics.jsonl"


class Window:
    """Sums over the minibatches since the last line."""

    def __init__(self) -> None:
        self.n_batches, self.n_examples, self.stream_seconds = 0, 0, 0.0
        self._sums: list[Tensor] = []

    def add(self, scores: Scores, norm: Tensor, n_examples: int) -> None:
        """Count one step: its scores, its gradient norm before clipping, the examples of all ranks."""
        self.n_batches += 1
        self.n_examples += n_examples
        loss = scores.loss.detach() * scores.n_tokens
        parts = (loss, scores.n_tokens, scores.n_right, scores.n_sequences, scores.n_sequences_right, norm)
        self._sums.append(torch.stack([part.detach().to(torch.float64) for part in parts]))

    def metrics(self, seconds: float) -> dict[str, Any]:
        """Means over the window, and its speed over `seconds`; the share of them spent waiting for the stream."""
        loss, n_tokens, right, n_sequences, sequences_right, norm = torch.stack(self._sums).sum(0).tolist()
        return {
            "loss": loss / max(n_tokens, 1),
            "token_accuracy": right / max(n_tokens, 1),
            "sequence_accuracy": sequences_right / max(n_sequences, 1),
            "gradient_norm": norm / self.n_batches,
            "examples_per_second": self.n_examples / seconds,
            "stream_share": self.stream_seconds / seconds,
        }


class MetricsLog:
    """Writes the lines of a run to its folder, and to TensorBoard events if wanted; a context that closes what it opened."""

    def __init__(self, folder: Path, tensorboard: bool) -> None:
        """Opens nothing yet."""
        self._folder, self._tensorboard = folder, tensorboard
        self._events: Any = None

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line, which has the `step` that it belongs to."""
        rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in line.items()}
        with (self._folder / METRICS_FILE).open("a") as file:
            file.write(json.dumps(rounded) + "\n")
        if self._tensorboard:
            if self._events is None:
                from torch.utils.tensorboard import SummaryWriter

                self._events = SummaryWriter(str(self._folder))
            for name, value in line.items():
                self._events.add_scalar(name, value, line["step"])

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run; what is no line of metrics, such as one during which the process was killed, is left out, and a
    missing file has none.

    Raises:
        UserError: there is a file and it cannot be read.
    """
    path = folder / METRICS_FILE
    if kind_of_path(path) == "missing":
        return []
    try:
        with open_regular(path) as file:
            texts = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError as problem:
        raise UserError(f"{shown(path)} cannot be read ({reason(problem)}): mend that or remove it") from problem
    lines = []
    for text in texts:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and type(line.get("step")) is int:
            lines.append(line)
    return lines


def drop_later_lines(folder: Path, step: int) -> None:
    """Remove what an interrupted run wrote after its last saved state."""
    kept = [line for line in read_lines(folder) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    write_atomically(folder / METRICS_FILE, lambda path: path.write_text(text))
