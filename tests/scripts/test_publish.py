"""A checkpoint is published, loaded from the Hub and the same again; whatever is not in order is said in one line."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from hub_server import HubServer
from huggingface_hub import ModelCard

from emlinit.generator.corpus.config import StreamConfig
from emlinit.model import EMLInitialiser, InitialiserConfig
from emlinit.model.initialiser import load_weights
from emlinit.model.pretraining.config import PretrainConfig
from emlinit.model.publishing import publication
from emlinit.model.weights import hub
from emlinit.scripts import cli, publish

# What the Hub's client does where large files go by plain HTTP.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FILES = ["README.md", "config.json", "metrics.json", "model.safetensors"]
REACHED = {
    **{
        "step": 36,
        "examples": 1000,
        "skipped": 0,
        "minutes": 3.6,
        "held_out_loss": 0.75,
        "held_out_sequence_loss": 6.5,
    },
    **{"held_out_token_accuracy": 0.5, "held_out_sequence_accuracy": 0.25},
}


def _pretraining(out: str, init_from: str | None = None) -> dict[str, Any]:
    config = PretrainConfig(minutes=4.0, init_from=init_from, stream=StreamConfig(max_tokens=24))
    return json.loads(json.dumps({**dataclasses.asdict(config), "out": out}))  # type: ignore[no-any-return]


def _small() -> EMLInitialiser:
    config = InitialiserConfig(d_model=16, n_heads=2, n_inducing=4, n_latents=3, n_decoder_layers=1, max_tokens=24)
    return EMLInitialiser(config, torch.Generator().manual_seed(3))


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """What a pretraining run that started from another one exports."""
    model = _small()
    first = {
        "pretraining": _pretraining("/home/someone/first"),
        "reached": {**REACHED, "examples": 500},
        "sha256": "ab",
    }
    model.about = {
        "pretraining": _pretraining("runs/second", "local-dir:/home/someone/first/export"),
        "reached": REACHED,
        "stages_before": [first],
    }
    model.save(tmp_path / "export")
    return tmp_path / "export"


@pytest.fixture
def login(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub.token


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    try:
        code = publish.main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr().err.splitlines()
    assert code == 2
    assert all(line.startswith("uploading to ") for line in said[:-1])
    assert said[-1].startswith("error: ")
    return said[-1]


def test_what_is_pushed_comes_back_bit_for_bit(
    hub: HubServer, login: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub"), "--push", "owner/eml"]
    assert cli.main(["publish", *arguments]) == 0
    said = capsys.readouterr()
    assert login not in said.out + said.err
    commit, source = said.out.splitlines()[-2:]
    assert source == f"hf-hub:owner/eml@{commit.removeprefix('commit ')}"
    assert hub.repositories["owner/eml"].commits.keys() == {source.partition("@")[2]}
    assert not hub.repositories["owner/eml"].private
    loaded, here = EMLInitialiser.load(source), EMLInitialiser.load(f"local-dir:{export}")
    parameters = dict(loaded.named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in here.named_parameters())
    assert (loaded.config, loaded.source[1]) == (here.config, here.source[1])
    published = hub.repositories["owner/eml"].commits[source.partition("@")[2]]
    assert sorted(published) == FILES
    assert published["model.safetensors"] == (export / "model.safetensors").read_bytes()
    # The same once more from the Hub's copy: the same weights, under a second commit.
    assert publish.main(["--checkpoint", source, "--out", str(tmp_path / "again"), "--push", "owner/eml"]) == 0
    again = capsys.readouterr().out.splitlines()[-1]
    assert again != source
    assert load_weights(again).sha256 == here.source[1]


def test_the_card_and_the_figures_say_what_the_run_reached(export: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    assert publish.main(["--checkpoint", f"local-dir:{export}", "--out", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["reached"] == REACHED
    assert [stage["reached"]["examples"] for stage in figures["stages_before"]] == [500]
    assert figures["sha256"] == load_weights(f"local-dir:{folder}").sha256
    card = ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "emlinit")
    assert (card.data.pipeline_tag, card.data.model_name) == ("tabular-regression", "emlinit-exact")
    assert "symbolic-regression" in card.data.tags
    results = {result.metric_name: (result.metric_type, result.metric_value) for result in card.data.eval_results}
    assert results == {
        "held-out loss (nats a token)": ("loss", 0.75),
        "held-out loss (nats a sequence)": ("loss", 6.5),
        "held-out tokens right": ("accuracy", 0.5),
        "held-out sequences right": ("accuracy", 0.25),
    }
    for text in (
        "1,000 examples in 4 minutes",
        "of 500 examples in 4 minutes",
        '"hf-hub:OWNER/NAME@REV"',
        "| 1,000 | 4 |",
    ):
        assert text in card.text
    everything = "".join((folder / name).read_text() for name in FILES[:3])
    assert "someone" not in everything
    assert "--out first" in card.text
    assert json.loads((folder / "config.json").read_text())["pretraining"]["init_from"] == "local-dir:export"


@pytest.mark.parametrize("grammar", ["exact", "weighted"])
def test_the_shipped_checkpoints_publish(grammar: str, tmp_path: Path) -> None:
    assert publish.main(["--checkpoint", f"builtin:{grammar}", "--out", str(tmp_path)]) == 0
    shipped, made = load_weights(f"builtin:{grammar}"), load_weights(f"local-dir:{tmp_path}")
    assert made.sha256 == shipped.sha256
    assert made.about["reached"] == shipped.about["reached"]
    card, before = (ModelCard.load(folder / "README.md") for folder in (tmp_path, shipped.folder))
    assert before.text.strip() in card.text
    reached = shipped.about["reached"]
    shown = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert shown["held-out loss (nats a token)"] == pytest.approx(reached["held_out_loss"], abs=1e-6)
    assert (tmp_path / "held_out_loss.png").read_bytes() == (shipped.folder / "held_out_loss.png").read_bytes()


def test_a_folder_of_its_own_is_replaced_and_no_other(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    assert publish.main(["--checkpoint", "builtin:exact", "--out", str(own)]) == 0
    assert publish.main(["--checkpoint", f"local-dir:{export}", "--out", str(own)]) == 0
    assert sorted(path.name for path in own.iterdir()) == FILES  # the curve of the first one is gone
    text = (own / "README.md").read_text()
    assert publish.main(["--checkpoint", f"local-dir:{own}", "--out", str(own)]) == 0
    assert (own / "README.md").read_text() == text  # also from itself, without growing
    capsys.readouterr()
    (own / "notes.txt").write_text("mine")
    for folder in (own, export):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        said = _refused(capsys, "--out", str(folder))
        assert f"'{folder}' is not empty and holds other files than a published checkpoint" in said
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert "is a file: name a folder" in _refused(capsys, "--out", str(own / "notes.txt"))


def test_weights_that_nothing_is_known_about_get_a_card_without_figures(tmp_path: Path) -> None:
    _small().save(tmp_path / "fresh")
    assert publish.main(["--checkpoint", f"local-dir:{tmp_path / 'fresh'}", "--out", str(tmp_path / "hub")]) == 0
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert card.data.license == "mit"
    assert card.data.eval_results is None
    assert "## Training" not in card.text
    assert "It reads at most 5 variables." in card.text


def test_the_card_beside_the_weights_is_kept(export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (export / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n\n# Mine\n\nby hand\n")
    arguments = ["--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub")]
    assert publish.main(arguments) == 0
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert (card.data.license, card.data.language, card.data.library_name) == ("apache-2.0", "en", "emlinit")
    assert "# Mine\n\nby hand" in card.text
    assert len(card.data.eval_results) == 4
    capsys.readouterr()
    (export / "README.md").write_text("---\nlicense: [\n---\n")
    assert "are not in order" in _refused(capsys, *arguments)


@pytest.mark.parametrize("name", ["README.md", "held_out_loss.png", "config.json", "model.safetensors"])
def test_links_out_of_a_checkpoint_are_not_published(
    name: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((export / name).read_bytes() if (export / name).exists() else b"mine")
    (export / name).unlink(missing_ok=True)
    (export / name).symlink_to(secret)
    said = _refused(capsys, "--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub"))
    assert "is a link out of the checkpoint" in said
    assert not (tmp_path / "hub").exists()


def test_a_picture_that_is_none_is_not_published(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (export / "held_out_loss.png").write_text("mine")
    said = _refused(capsys, "--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub"))
    assert "held_out_loss.png' cannot be published (it is no PNG picture): mend or remove it" in said


@pytest.mark.parametrize("name", ["README.md", "config.json", "held_out_loss.png"])
def test_nothing_is_written_through_a_link(
    name: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub")]
    assert publish.main(arguments) == 0
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "hub" / name).unlink(missing_ok=True)
    (tmp_path / "hub" / name).symlink_to(tmp_path / "mine")
    capsys.readouterr()
    assert "holds other files than a published checkpoint" in _refused(capsys, *arguments)
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "hub" / name).is_symlink()


ODD: list[tuple[dict[str, Any], str]] = [
    ({"pretraining": [1]}, "pretraining should be an object, not [1]"),
    ({"pretraining": 3}, "pretraining should be an object, not 3"),
    ({"pretraining": {"more": 1}}, "put a README.md beside its weights"),
    ({"pretraining": {"out": ["/a"], "stream": [3]}}, "put a README.md beside its weights"),
    ({"pretraining": {"out": "~nobody-of-this-name/x", "init_from": 3}}, "put a README.md beside its weights"),
    ({"reached": {**REACHED, "held_out_loss": "low"}}, "reached.'held_out_loss' should be a number of at least 0"),
    ({"reached": {**REACHED, "step": -1}}, "reached.'step' should be a number of at least 0, not -1"),
    ({"reached": {**REACHED, "minutes": float("nan")}}, "the number NaN is not finite"),
    ({"reached": []}, "reached should be an object, not []"),
    ({"stages_before": {"a": 1}}, "stages_before should be a list of objects"),
    ({"stages_before": [[]]}, "stages_before should be a list of objects"),
    ({"stages_before": [{}] * 2000}, "stages_before has 2000 entries"),
    ({"stages_before": [{"pretraining": {}, "reached": {}}]}, "put a README.md beside its weights"),
    ({"corpus": {"programs": "many", "version": {}}, "pretraining": {}}, "put a README.md beside its weights"),
]


@pytest.mark.parametrize(("changes", "message"), ODD)
def test_odd_histories_are_one_line(
    changes: dict[str, Any], message: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((export / "config.json").read_text())
    (export / "config.json").write_text(json.dumps(config | changes))
    said = _refused(capsys, "--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub"))
    assert message in said
    assert len(said) < 600
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("name", ["x" * 300, "nul\0", "mine/below", "mine"])
def test_a_folder_that_cannot_be_is_one_line(
    name: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("mine")
    said = _refused(capsys, "--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / name))
    assert "name a" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "mine"]


def test_a_checkpoint_of_before_is_published_with_the_hash_of_its_architecture(export: Path, tmp_path: Path) -> None:
    config = json.loads((export / "config.json").read_text())
    recorded = config.pop("architecture_sha256")
    (export / "config.json").write_text(json.dumps(config))
    assert publish.main(["--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub")]) == 0
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["architecture_sha256"] == recorded


def test_damaged_weights_are_not_published(export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (export / "model.safetensors").write_bytes((export / "model.safetensors").read_bytes()[:-1])
    arguments = ["--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub")]
    assert "truncated or changed" in _refused(capsys, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]
    config = json.loads((export / "config.json").read_text())
    (export / "config.json").write_text(json.dumps(config | {"pretraining": {"stream": 3}}))
    _small().save(export.parent / "good")
    (export / "model.safetensors").write_bytes((export.parent / "good" / "model.safetensors").read_bytes())
    assert "put a README.md beside its weights" in _refused(capsys, *arguments)
    assert not (tmp_path / "hub").exists()


def test_a_private_repository_stays_private(
    hub: HubServer, login: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub"), "--private"]
    assert publish.main([*arguments, "--push", "owner/secret"]) == 0
    assert hub.repositories["owner/secret"].private
    capsys.readouterr()
    hub.add("owner/open", export)
    assert "'owner/open' exists and is public" in _refused(capsys, *arguments, "--push", "owner/open")
    assert len(hub.repositories["owner/open"].commits) == 1


def test_an_upload_that_fails_says_why(
    hub: HubServer, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub"), "--push"]
    assert "log in with 'hf auth login' or set HF_TOKEN" in _refused(capsys, *arguments, "owner/eml")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    said = _refused(capsys, *arguments, "another/eml")
    assert "gives no permission for 'another/eml' (You don't have the rights to create a model under another)" in said
    assert "nothing was published" in said
    assert hub.token not in said
    assert hub.repositories == {}
    hub.stop()
    began = time.monotonic()
    assert f"cannot reach {hub.url} " in _refused(capsys, *arguments, "owner/eml")
    assert time.monotonic() - began < 5
    assert load_weights(f"local-dir:{tmp_path / 'hub'}").sha256 == load_weights(f"local-dir:{export}").sha256


def test_another_endpoint(
    hub: HubServer, login: str, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    arguments = ["--checkpoint", f"local-dir:{export}", "--out", str(tmp_path / "hub"), "--push", "owner/eml"]
    assert publish.main([*arguments, "--endpoint", f"{hub.url}/"]) == 0
    assert f"set HF_ENDPOINT={hub.url} to load it" in capsys.readouterr().err
    assert "owner/eml" in hub.repositories


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--push", "eml"], "argument --push: 'eml' is not of the form OWNER/NAME"),
        (["--push", "a/b/c"], "'a/b/c' is not of the form OWNER/NAME"),
        (["--private"], "--private and --endpoint are about an upload: add --push OWNER/NAME"),
        (["--push", "a/b", "--endpoint", "hub.example"], "'hub.example' is no address"),
        (["--checkpoint", "nowhere"], "unknown checkpoint 'nowhere': expected builtin:exact"),
        (["--ckeckpoint", "builtin:exact"], "unknown argument '--ckeckpoint': did you mean --checkpoint?"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in _refused(capsys, "--out", str(tmp_path / "hub"), *arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        publish.main(["--help"])
    shown = capsys.readouterr().out
    for text in ("--checkpoint", "--out", "--push", "--private", "--endpoint", "hf auth login", "model.safetensors"):
        assert text in shown


@pytest.mark.parametrize("uploading", [False, True])
def test_an_interruption_is_told_what_was_written(
    uploading: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_given: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hub if uploading else publication, "push" if uploading else "publish", interrupted)
    out = tmp_path / "hub"
    assert publish.main(["--out", str(out), "--push", "owner/name"]) == 130
    told = f"'{out}' is written" if uploading else "nothing was written"
    assert capsys.readouterr().err == f"error: interrupted, {told}\n"
    assert out.exists() == uploading
