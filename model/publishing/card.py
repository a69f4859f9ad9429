"""The model card of a checkpoint: what it is, what it was trained on, how far it came, what it cannot do.

Everything in it is read from the checkpoint's own configuration and from the metrics of the run that made it.
"""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from emlinit.generator.corpus.drawing import EXCLUDE_FROM_SIZE
from emlinit.generator.errors import UserError
from emlinit.generator.files import write_atomically
from emlinit.generator.foreign import reason
from emlinit.model.initialiser import load_weights
from emlinit.model.pretraining.config import PretrainConfig
from emlinit.model.pretraining.metrics import read_lines
from emlinit.model.weights.checkpoint import StoredWeights

CARD_FILE = "README.md"
CURVE_FILE = "held_out_loss.png"
TABLE_ROWS = 8
"""Most rows of the table of held-out figures."""

METADATA = """---
license: mit
library_name: emlinit
pipeline_tag: tabular-regression
tags:
- symbolic-regression
- eml
- set-transformer
---
"""

_PURPOSES = {
    "exact": """\
A set transformer that reads data points and proposes formulas, with the routing logits that start Gumbel-hard training
of an EML tree (identities and laws without free constants: trees of `eml(l, r) = exp(l) - ln(r)`, 1 and the variables).""",
    "weighted": """\
A set transformer that reads data points and proposes formulas (laws with constants: trees of
`eml(l, r) = exp(l) - ln(r)`, 1 and the variables, whose slots are linear combinations with free factors). The solver fits
the constants of all proposals, and grows the best programs by their parts.""",
}


@dataclass(frozen=True)
class RunFigures:
    """How far a pretraining run came."""

    examples: int
    """Examples seen, none of them twice."""
    minutes: float
    """Minutes of training."""
    held_out_loss: float
    """Last held-out loss of the averaged weights, nats a token."""


def write_model_card(checkpoint_dir: Path, run_dir: Path, recovery_markdown: str) -> RunFigures:
    """Write `README.md` and the curve of the held-out loss into a checkpoint's folder.

    Args:
        checkpoint_dir: folder with weights and configuration, as exported by pretraining.
        run_dir: folder of the run that made them.
        recovery_markdown: what the weights recover, with the commands that show it.

    Raises:
        UserError: no readable checkpoint, or a run without held-out measurements or of fewer steps than the checkpoint.
    """
    stored = load_weights(f"local-dir:{checkpoint_dir}")
    if "pretraining" not in stored.about or "reached" not in stored.about:
        raise UserError(f"'{checkpoint_dir}' does not say how it was trained: use the export/ folder of a run")
    step = stored.about["reached"].get("step", -1)
    lines = [line for line in read_lines(run_dir) if line["step"] <= step]
    held_out = [line for line in lines if "held_out_loss" in line]
    if not held_out:
        raise UserError(
            f"the run in '{run_dir}' has no held-out measurement up to this checkpoint: is it the right run?"
        )
    try:
        figures = RunFigures(held_out[-1]["examples"], held_out[-1]["minutes"], held_out[-1]["held_out_loss"])
        source = f"builtin:{stored.architecture['grammar']}"
        text = card_text(stored, source, held_out, recovery_markdown, has_curve=True)
        curve = _draw(lines)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as problem:
        raise UserError(
            f"the metrics in '{run_dir}' or the configuration in '{checkpoint_dir}' are not those of a run "
            f"({type(problem).__name__}: {reason(problem)}): name the folders of one run"
        ) from problem
    write_atomically(checkpoint_dir / CURVE_FILE, lambda path: curve.savefig(path, format="png", dpi=120))
    write_atomically(checkpoint_dir / CARD_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    return figures


def command_line(pretraining: Mapping[str, Any]) -> str:
    """The command that repeats a run, from the `pretraining` entry of its configuration; defaults are left out."""

    def differing(fields: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> list[str]:
        words: list[str] = []
        for name, value in fields.items():
            option = f"{prefix}{name.replace('_', '-')}"
            if isinstance(value, Mapping):
                words += differing(value, defaults[name], f"{option}.")
            elif name != "resume" and (value != defaults[name] or option in ("out", "stream.grammar")):
                if isinstance(value, bool):
                    before, _, last = option.rpartition(".")
                    flag = last if value else f"no-{last}"
                    words.append(f"--{before}.{flag}" if before else f"--{flag}")
                else:
                    short = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
                    words.append(f"--{option} {shlex.quote(short)}")
        return words

    defaults = dataclasses.asdict(PretrainConfig())
    return " ".join(["python scripts/pretrain.py", *differing(pretraining, {**defaults, "out": str(defaults["out"])})])


def _draw(lines: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, label, style in (("loss", "training", {"alpha": 0.4}), ("held_out_loss", "held out", {"marker": "."})):
        points = [(line["examples"] / 1000, line[name]) for line in lines if name in line]
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, **style)
    axes.set_xlabel("examples seen (thousands)")
    axes.set_ylabel("loss (nats a token)")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def card_text(
    stored: StoredWeights,
    source: str,
    held_out: Sequence[Mapping[str, Any]],
    recovery_markdown: str = "",
    *,
    has_curve: bool,
) -> str:
    """The card of a checkpoint; what is not known about it is left out.

    Args:
        stored: the checkpoint.
        source: the name by which readers load it.
        held_out: held-out measurements, lines of metrics.jsonl, oldest first.
        recovery_markdown: what the weights recover.
        has_curve: whether the picture of the held-out loss lies beside the card.
    """
    architecture, pretraining = stored.architecture, stored.about.get("pretraining")
    grammar = architecture["grammar"]
    n_parameters = sum(tensor.numel() for tensor in stored.tensors.values())
    widths = ", ".join(f"`{name}` {value}" for name, value in architecture.items() if name != "grammar")
    intro = f"""# emlinit, {grammar} grammar

{_PURPOSES[grammar]}

```python
from emlinit.model import EMLInitialiser

EMLInitialiser.load("{source}").propose(x, y, n=64)  # x (points, variables), y (points,)
```

or, proposals and everything after them, `{_solve_command(source, grammar)}`.

- {n_parameters / 1e6:.2f} M parameters: {widths}.
- Weights: `model.safetensors`, sha256 `{stored.sha256}`."""
    sections = [intro]
    if pretraining is not None:
        sections += [
            f"## Pretraining corpus\n\n{_corpus(pretraining['stream'], stored.about.get('corpus', {}))}",
            _training(stored.about, held_out, has_curve=has_curve),
        ]
    if recovery_markdown.strip():
        sections.append(f"## Recovery\n\n{recovery_markdown.strip()}")
    sections.append(_limits(architecture, pretraining["stream"] if pretraining is not None else None))
    return METADATA + "\n" + "\n\n".join(sections) + "\n"


def _solve_command(source: str, grammar: str) -> str:
    checkpoint = "" if source == f"builtin:{grammar}" else f" --checkpoint {source}"
    return f"python scripts/solve.py DATA.csv --grammar {grammar}{checkpoint}"


def _training(about: Mapping[str, Any], held_out: Sequence[Mapping[str, Any]], *, has_curve: bool) -> str:
    pretraining = about["pretraining"]
    parts = ["## Training", f"```\n{command_line(pretraining)}\n```"]
    if held_out:
        last = held_out[-1]
        parts.append(
            f"{last['examples']:,} examples in {last['minutes']:.0f} minutes, {last['step']:,} steps; the weights are the "
            "exponential\naverage over the steps. All options are in `config.json`."
        )
    for stage in reversed(about.get("stages_before", [])):
        if "pretraining" in stage and "reached" in stage:
            parts.append(_stage_before(stage))
    if has_curve:
        parts.append(f"![held-out loss]({CURVE_FILE})")
    if held_out:
        parts.append(
            f"Held out are {pretraining['held_out_batches']} minibatches of {pretraining['stream']['batch_size']} examples, "
            "made from a\nseed that training cannot use. A sequence counts as right when the most probable token is right "
            "at every position,\ngiven the right ones before it."
        )
        parts.append(_table(held_out))
    return "\n\n".join(parts)


def _stage_before(stage: Mapping[str, Any]) -> str:
    told = (
        f"The run started from weights (sha256 `{stage['sha256']}`) of {stage['reached']['examples']:,} examples "
        f"in {stage['reached']['minutes']:.0f} minutes"
    )
    try:
        return f"{told}:\n\n```\n{command_line(stage['pretraining'])}\n```"
    except (KeyError, TypeError):  # of another program, or of another version of this one
        return (
            f"{told}. They were trained with other options than this version has: see `stages_before` in `config.json`."
        )


def _limits(architecture: Mapping[str, Any], stream: Mapping[str, Any] | None) -> str:
    shown = "."
    if stream is not None:
        shown = (
            f" (trained on up to {stream['max_variables']}) and was shown {stream['min_points']} to "
            f"{stream['max_points']} points at a time; more are\n  split into bags."
        )
    return f"""## Limits

- It reads at most {architecture["n_variables"]} variables{shown}
- It proposes, it does not prove: formulas larger than the corpus' are out of its reach, and most proposals are wrong.
  Every one has to be fitted and checked against the data, as the solver does.
{_grammar_limit(architecture["grammar"])}
- Numbers are read in single precision."""


def _corpus(stream: Mapping[str, Any], corpus: Mapping[str, Any]) -> str:
    common = (
        f"An endless stream made while training, no example twice: up to {stream['max_variables']} variables, "
        f"{stream['max_nodes']} eml nodes and {stream['max_tokens']} tokens; {stream['min_points']} to "
        f"{stream['max_points']} points, uniform, log-uniform, evenly spaced or clustered, on positive or mixed "
        "ranges; only values that the "
        f"evaluator certifies, |y| up to {stream['largest_y']:g}. "
    )
    if stream["grammar"] == "exact":
        common += (
            f"Random trees, {_share(stream.get('size_share', 1 / 6))} uniform by size and the rest by depth 1 to "
            f"{stream['max_depth']}, each depth drawn "
            f"{stream.get('depth_growth', 1.0):g} times as often as the one above it, real-valued and not "
            "constant. Labels are canonical: subtrees that equal a smaller known tree are replaced by it. Functions of the "
            f"frozen evaluation set and of the held-out minibatches with {EXCLUDE_FROM_SIZE} nodes or more are kept out by "
            "value, in whatever form they come."
        )
    else:
        low, high = (100 * stream.get(name, usual) for name, usual in (("least_noise", 1e-3), ("most_noise", 0.1)))
        common += (
            f"{stream['formula_share']:.0%} are random ordinary formulas (sums of products of powers, exponentials, "
            "logarithms, oscillations and saturating functions, and random operator trees; simple constants and constants "
            "over orders of magnitude) written as weighted programs; the rest are random "
            f"weighted trees. {stream['noise_share']:.0%} have Gaussian noise of {low:g} % to {high:g} % of y's spread."
        )
    if stream.get("corpus"):
        common += (
            f" The programs of {stream['corpus_share']:.0%} of the examples come from a stored corpus of "
            f"{corpus.get('programs', 0):,} (sha256 `{corpus.get('sha256', '')}`), read over and over with fresh points."
        )
    return f"{common} Corpus version {corpus['version']}." if "version" in corpus else common


def _share(share: float) -> str:
    return "a sixth" if share == 1 / 6 else f"{share:.0%}"


def _grammar_limit(grammar: str) -> str:
    if grammar == "exact":
        return "- There are no free constants: 2.5 exp(-0.7 x) is not in its language; use the weighted one."
    return "- Constants come as one of 37 magnitudes from 0.001 to 1000 and a sign; fitting has to do the rest."


def _table(held_out: Sequence[Mapping[str, Any]]) -> str:
    n_rows = min(TABLE_ROWS, len(held_out))
    chosen = sorted({round(i * (len(held_out) - 1) / max(1, n_rows - 1)) for i in range(n_rows)})
    rows = [
        "| examples | minutes | loss a token | loss a sequence | tokens right | sequences right |",
        "|" + " ---: |" * 6,
    ]
    for line in (held_out[i] for i in chosen):
        rows.append(
            f"| {line['examples']:,} | {line['minutes']:.0f} | {line['held_out_loss']:.3f} "
            f"| {line['held_out_sequence_loss']:.2f} | {line['held_out_token_accuracy']:.1%} "
            f"| {line['held_out_sequence_accuracy']:.1%} |"
        )
    return "\n".join(rows)
