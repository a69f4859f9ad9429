"""A checkpoint as a folder that is ready for the Hugging Face Hub.

    model.safetensors    the weights, bit for bit, or the files that they are split into and their index
    config.json          architecture and pretraining options
    README.md            model card: the checkpoint's own if it has one, else one made from its configuration
    held_out_loss.png    curve of the held-out loss, if the checkpoint has one
    metrics.json         what the run reached, and the runs before it that its weights have behind them

What is written is checked as strictly as any checkpoint that is loaded. Of absolute paths among the options, such as the
folder of the run, only the last part is published.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from emlinit.generator.errors import UserError
from emlinit.generator.foreign import kind_of_path, parse_json, read_bounded, reason, shown
from emlinit.generator.moves import existing_parent, move_together
from emlinit.model.initialiser import load_weights
from emlinit.model.publishing.beside import file_of_checkpoint, parse_card, read_card, read_picture
from emlinit.model.publishing.card import CARD_FILE, CURVE_FILE, METADATA, card_text
from emlinit.model.weights.checkpoint import (
    CONFIG_FILE,
    MOST_CONFIG_BYTES,
    WEIGHTS_FILE,
    StoredWeights,
    architecture_sha256,
)
from emlinit.model.weights.shards import INDEX_FILE, is_shard_name

FIGURES_FILE = "metrics.json"
FIGURES_FORMAT = "emlinit-metrics"
_BESIDE = (CARD_FILE, CONFIG_FILE, FIGURES_FILE, CURVE_FILE)  # the last one is missing where there is no curve

_METRICS = {
    "held_out_loss": ("loss", "held-out loss (nats a token)"),
    "held_out_sequence_loss": ("loss", "held-out loss (nats a sequence)"),
    "held_out_token_accuracy": ("accuracy", "held-out tokens right"),
    "held_out_sequence_accuracy": ("accuracy", "held-out sequences right"),
}
_HEADING = "## From the Hub"


@dataclass(frozen=True)
class Publication:
    """A folder that has been written."""

    folder: Path
    """Where it is."""
    files: tuple[str, ...]
    """Names of its files."""
    grammar: str
    """`exact` or `weighted`."""
    n_parameters: int
    """Weights in all."""
    sha256: str
    """Hash of the weights, hexadecimal; see `StoredWeights`."""


def publish(source: str, folder: Path, repository: str | None = None) -> Publication:
    """Write the folder of a checkpoint; one that was published before is replaced.

    Args:
        source: any form that `load_weights` reads.
        folder: a new or empty folder, or one made by this function.
        repository: `OWNER/NAME` on the Hub for the card to name, if known.

    Raises:
        UserError: the checkpoint is not in order, or the folder holds other things or cannot be written.
    """
    _check(folder)
    stored = load_weights(source)
    picture = _checked_files(stored)
    paths = dict(_machine_paths(stored.about))
    about = _replaced(_signed(stored), paths)
    text = _card(stored, repository, has_curve=picture is not None)
    for path, name in paths.items():
        text = text.replace(path, name)
    try:
        with tempfile.TemporaryDirectory(
            prefix=".emlinit-", dir=existing_parent(folder.absolute().parent)
        ) as temporary:
            fresh = Path(temporary)
            for name in stored.files:
                shutil.copyfile(stored.folder / name, fresh / name)
            (fresh / CONFIG_FILE).write_text(_json(about), encoding="utf-8")
            (fresh / CARD_FILE).write_text(text, encoding="utf-8")
            (fresh / FIGURES_FILE).write_text(_json(_figures(about, stored.sha256)), encoding="utf-8")
            if picture is not None:
                (fresh / CURVE_FILE).write_bytes(picture)
            try:
                load_weights(f"local-dir:{fresh}")
            except UserError as problem:
                raise UserError(f"checkpoint '{source}' changed while it was read: try again") from problem
            written = (*sorted(stored.files), *(name for name in _BESIDE if (fresh / name).exists()))
            before = {path.name for path in folder.iterdir() if _is_published(path.name)} if folder.exists() else set()
            move_together(fresh, folder, written, gone=sorted(before - set(written)))
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(folder)} cannot be written ({reason(error)}): name another folder") from error
    return Publication(
        folder,
        written,
        stored.architecture["grammar"],
        sum(tensor.numel() for tensor in stored.tensors.values()),
        stored.sha256,
    )


def _check(folder: Path) -> None:
    """Refuse a folder that holds anything but what `publish` writes."""
    kind = kind_of_path(folder)
    if kind not in ("folder", "missing"):
        raise UserError(f"'{folder}' is a file: name a folder, which is made if it does not exist")
    try:
        found = list(folder.iterdir()) if kind == "folder" else []
    except OSError as problem:
        raise UserError(f"{shown(folder)} cannot be read ({reason(problem)}): name another folder") from problem
    if not found:
        return
    try:
        own = parse_json(read_bounded(folder / FIGURES_FILE, MOST_CONFIG_BYTES)).get("format") == FIGURES_FORMAT
    except (OSError, ValueError, AttributeError):
        own = False
    # What `publish` wrote has no links, and to write beside one is to write where it leads.
    strange = any(not _is_published(path.name) or path.is_symlink() or not path.is_file() for path in found)
    if not own or strange:
        raise UserError(f"'{folder}' is not empty and holds other files than a published checkpoint: name a new folder")


def _is_published(name: str) -> bool:
    """Whether `publish` may have written a file of this name."""
    return name in (WEIGHTS_FILE, INDEX_FILE, *_BESIDE) or is_shard_name(name)


def _checked_files(stored: StoredWeights) -> bytes | None:
    """The picture if there is one; every file of the checkpoint may be published."""
    if stored.source.startswith("builtin:"):  # ours, wherever an installer links them to
        picture = stored.folder / CURVE_FILE
        return picture.read_bytes() if picture.is_file() else None
    for name in (*stored.files, CONFIG_FILE, CARD_FILE):
        file_of_checkpoint(stored.folder, name)
    curve = file_of_checkpoint(stored.folder, CURVE_FILE)
    return None if curve is None else read_picture(curve)


def _signed(stored: StoredWeights) -> dict[str, Any]:
    """The configuration with the hash of its architecture, which that of an old checkpoint lacks."""
    return {**stored.about, "architecture_sha256": architecture_sha256(stored.architecture, stored.sha256)}


def _figures(about: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    return {
        "format": FIGURES_FORMAT,
        "grammar": about["architecture"]["grammar"],
        "sha256": sha256,
        "reached": about.get("reached", {}),
        "stages_before": about.get("stages_before", []),
    }


def _card(stored: StoredWeights, repository: str | None, *, has_curve: bool) -> str:
    """The model card with complete metadata."""
    reached, source = stored.about.get("reached", {}), f"hf-hub:{repository or 'OWNER/NAME'}@REV"
    given = stored.folder / CARD_FILE
    measured = {name for name in _METRICS if reached.get(name) is not None}
    if kind_of_path(given) == "file":
        text = read_card(given)
    else:
        try:
            text = card_text(stored, source, [reached] if measured == _METRICS.keys() else [], has_curve=has_curve)
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as problem:
            raise UserError(
                f"no model card can be made of what '{stored.source}' says about its pretraining "
                f"({type(problem).__name__}: {reason(problem)}): put a {CARD_FILE} beside its weights"
            ) from problem
    card = parse_card(text, str(given))
    defaults = ModelCard(METADATA).data
    for name in ("license", "library_name", "pipeline_tag", "tags"):
        card.data[name] = card.data.get(name) or defaults[name]
    grammar = stored.architecture["grammar"]
    results = [
        EvalResult(
            task_type="tabular-regression",
            task_name="symbolic regression",
            dataset_type=f"emlinit-{grammar}-stream",
            dataset_name=f"held-out minibatches of the {grammar} stream",
            metric_type=kind,
            metric_name=name,
            metric_value=round(float(reached[figure]), 6),
        )
        for figure, (kind, name) in _METRICS.items()
        if figure in measured
    ]
    if results:
        card.data["model_name"], card.data["eval_results"] = f"emlinit-{grammar}", results
    card.text = f"{card.text.partition(_HEADING)[0].rstrip()}\n\n{_HEADING}\n\n" + (
        f'```python\nEMLInitialiser.load("{source}")\n```\n\n'
        "REV is the hash of a commit of this repository: it pins these weights, and what has been loaded once needs no "
        f"network\nafterwards. `python scripts/solve.py DATA.csv --checkpoint {source}` takes the same name.\n"
        "`config.json` holds the architecture and all options, `metrics.json` the figures of this run and of those "
        "before it.\n"
    )
    return str(card)


def _machine_paths(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Absolute paths among the options of all runs, and what to say instead: their last part."""
    for stage in (about, *about.get("stages_before", [])):
        options = stage.get("pretraining", {})
        stream = options.get("stream")
        corpus = stream.get("corpus") if isinstance(stream, Mapping) else None
        for value in (options.get("out"), options.get("init_from"), corpus):
            scheme, colon, path = value.rpartition(":") if isinstance(value, str) else ("", "", "")
            if (Path(path).is_absolute() or path.startswith("~")) and Path(path).name:
                yield str(value), f"{scheme}{colon}{Path(path).name}"


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
