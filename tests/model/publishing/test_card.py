"""The model card is valid for the Hub and says what the run's own files say."""

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.errors import UserError
from emlinit.model import EMLInitialiser, InitialiserConfig
from emlinit.model.pretraining.config import PretrainConfig
from emlinit.model.pretraining.optimisation import OptimiserConfig
from emlinit.model.publishing.card import CARD_FILE, CURVE_FILE, command_line, write_model_card
from emlinit.scripts.pretrain import parse

CONFIGS = [
    PretrainConfig(out=Path("runs/a"), minutes=82.0),
    PretrainConfig(
        out=Path("runs/b c"),
        steps=7,
        minutes=0.5,
        tensorboard=True,
        stream=StreamConfig(grammar="weighted", max_tokens=48, noise_share=0.25, largest_y=1234567.125),
        model=InitialiserConfig(d_model=32, n_heads=2),
        optimiser=OptimiserConfig(muon=False, final_learning_rate=3e-6),
    ),
]


def _as_json(config: PretrainConfig) -> dict[str, object]:
    return json.loads(json.dumps({**dataclasses.asdict(config), "out": str(config.out)}))  # type: ignore[no-any-return]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_command_repeats_the_run(config: PretrainConfig) -> None:
    python, script, *arguments = shlex.split(command_line(_as_json(config)))
    assert (python, script) == ("python", "scripts/pretrain.py")
    assert parse(arguments) == config
    assert len(arguments) < 30  # defaults are left out


@pytest.fixture
def run(tmp_path: Path) -> Path:
    lines = [
        {"step": step, "examples": 16 * step, "minutes": step / 10, "loss": 2 - step / 50} for step in range(1, 41)
    ]
    for line in lines[3::4]:
        figures = {"loss": line["loss"] + 0.1, "sequence_loss": 9.0, "token_accuracy": 0.5, "sequence_accuracy": 0.25}
        line |= {f"held_out_{name}": value for name, value in figures.items()}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "run"


@pytest.mark.parametrize(("grammar", "config"), [("exact", CONFIGS[0]), ("weighted", CONFIGS[1])])
def test_the_card_says_what_the_run_says(
    grammar: str, config: PretrainConfig, run: Path, tmp_path: Path, tiny: Callable[[str], EMLInitialiser]
) -> None:
    model = tiny(grammar)
    model.about = {"pretraining": _as_json(config), "reached": {"step": 36}}  # the run went on after this checkpoint
    folder = tmp_path / "checkpoint"
    sha256 = model.save(folder)
    figures = write_model_card(folder, run, "| depth | recovered |\n| --- | --- |\n| 2 | 9 of 10 |\n")
    assert dataclasses.astuple(figures) == pytest.approx((36 * 16, 3.6, 2 - 36 / 50 + 0.1))
    card = ModelCard.load(folder / CARD_FILE)
    assert card.data.to_dict() == {
        "license": "mit",
        "library_name": "emlinit",
        "pipeline_tag": "tabular-regression",
        "tags": ["symbolic-regression", "eml", "set-transformer"],
    }
    for text in ("576 examples in 4 minutes", sha256, "2 | 9 of 10", f"({CURVE_FILE})", f'"builtin:{grammar}"'):
        assert text in card.text
    assert f"`d_model` {model.config.d_model}" in card.text
    assert command_line(_as_json(config)) in card.text
    assert "| 576 | 4 | 1.380 | 9.00 | 50.0% | 25.0% |" in card.text
    assert card.text.count("| 50.0% |") == 8
    assert ("written as weighted programs" in card.text) == (grammar == "weighted")
    assert (folder / CURVE_FILE).read_bytes().startswith(b"\x89PNG")
    assert EMLInitialiser.load(f"local-dir:{folder}").config == model.config


def test_weights_of_another_program_may_have_been_the_start(
    run: Path, tmp_path: Path, tiny: Callable[[str], EMLInitialiser]
) -> None:
    model = tiny("weighted")
    known = {"sha256": "abc", "pretraining": _as_json(CONFIGS[1]), "reached": {"examples": 1000, "minutes": 3.0}}
    foreign = {"sha256": "def", "pretraining": {"batch": 2048}, "reached": {"examples": 6_631_424, "minutes": 7.2}}
    model.about = {
        "pretraining": _as_json(CONFIGS[0]),
        "reached": {"step": 36},
        "stages_before": [foreign, known],
    }
    model.save(tmp_path)
    write_model_card(tmp_path, run, "")
    text = ModelCard.load(tmp_path / CARD_FILE).text
    assert command_line(_as_json(CONFIGS[1])) in text
    assert "weights (sha256 `def`) of 6,631,424 examples in 7 minutes. They were trained with other options" in text


def test_cards_are_not_made_up(run: Path, tmp_path: Path, tiny: Callable[[str], EMLInitialiser]) -> None:
    model = tiny("exact")
    model.save(tmp_path / "untold")
    with pytest.raises(UserError, match="does not say how it was trained"):
        write_model_card(tmp_path / "untold", run, "")
    model.about = {"pretraining": _as_json(CONFIGS[0]), "reached": {"step": 2}}
    model.save(tmp_path / "early")
    with pytest.raises(UserError, match="no held-out measurement up to this checkpoint"):
        write_model_card(tmp_path / "early", run, "")
    assert not (tmp_path / "early" / CARD_FILE).exists()
