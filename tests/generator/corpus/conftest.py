"""Small stored corpora, and a cache of `datasets` that is the tests' own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import datasets.config
import pytest

from emlinit.generator.corpus import writing
from emlinit.generator.corpus.config import StreamConfig
from emlinit.generator.corpus.writing import WritingConfig, write_corpus


@pytest.fixture(autouse=True)
def _own_datasets_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session", autouse=True)
def _small_rounds() -> Iterator[None]:
    """Corpora of tests are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "ROUND", 256)
        yield


@pytest.fixture(scope="session")
def law() -> Callable[..., StreamConfig]:
    """A corpus of small programs in one variable, which is quick to make."""

    def make(grammar: str, **changes: object) -> StreamConfig:
        small = {"max_variables": 1, "max_nodes": 7, "max_depth": 4, "max_tokens": 24, "max_points": 12}
        return StreamConfig(grammar=grammar, **{**small, "batch_size": 16, "pool_batches": 4, **changes})

    return make


@pytest.fixture(scope="session")
def stored(law: Callable[..., StreamConfig], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a stored corpus of 300 programs in two files; not to be changed."""
    made: dict[str, Path] = {}

    def make(grammar: str) -> Path:
        if grammar not in made:
            out = tmp_path_factory.mktemp("corpora") / grammar
            write_corpus(WritingConfig(out=out, programs=300, shard_size=200, stream=law(grammar)))
            made[grammar] = out
        return made[grammar]

    return make
