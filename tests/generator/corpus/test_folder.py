"""Whatever is wrong with the folder of a corpus is said in one sentence before anything is trained."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer, Repository

from emlinit.generator.corpus.folder import open_corpus
from emlinit.generator.errors import UserError


@pytest.fixture
def copy(stored: Callable[[str], Path], tmp_path: Path) -> Path:
    """An exact corpus to be damaged."""
    return Path(shutil.copytree(stored("exact"), tmp_path / "copy"))


def _refused(folder: Path, message: str, grammar: str = "exact") -> None:
    with pytest.raises(UserError, match=message) as refusal:
        open_corpus(str(folder), grammar)
    assert len(str(refusal.value)) < 400 + len(str(folder))


def test_a_good_one_is_opened(copy: Path) -> None:
    table, sha256 = open_corpus(str(copy), "exact")
    assert (len(table), len(sha256)) == (300, 64)
    (copy / "README.md").unlink()  # the card is not needed
    (copy / "corpus.json").unlink()
    again, same = open_corpus(str(copy), "exact")
    assert (len(again), same) == (300, sha256)


def test_missing_things(copy: Path, tmp_path: Path) -> None:
    _refused(tmp_path / "nowhere", "no folder '.*nowhere' with a corpus: make one with scripts/make_corpus.py")
    (tmp_path / "empty").mkdir()
    _refused(tmp_path / "empty", "no corpus in '.*empty'")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "data.csv").write_text("x,y\n1,2\n")
    _refused(tmp_path / "table", "no training split of Parquet files")
    next((copy / "data").iterdir()).unlink()
    _refused(copy, "has 1 of 2 files: copy the others, too")


def test_the_other_grammar(stored: Callable[[str], Path]) -> None:
    _refused(stored("weighted"), "is of the weighted grammar, not of the exact one")
    _refused(stored("exact"), "is of the exact grammar, not of the weighted one", "weighted")


def test_a_shard_that_is_cut_off_or_no_parquet(copy: Path) -> None:
    shard = sorted((copy / "data").iterdir())[1]
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    _refused(copy, "is cut off or no Parquet file")
    shard.write_bytes(b"")
    _refused(copy, "is cut off or no Parquet file")
    shard.write_bytes(content[:200] + bytes(200) + content[400:])  # the footer is whole
    _refused(copy, "the corpus in .* is damaged")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0], "y": [2.0]}, "has the columns x, y: a corpus of the exact grammar has tokens, n_variables"),
        ({"tokens": ["eml x1 1"], "n_variables": [1]}, "column 'tokens' of .* is of type string, not list"),
        ({"tokens": [[1, 7, 3]], "n_variables": ["one"]}, "column 'n_variables' of .* is of type string, not uint8"),
        ({"tokens": [[1, 7, 12]], "n_variables": [1]}, "holds token 12, which the exact grammar does not have"),
        ({"tokens": [[5, 7]], "n_variables": [1]}, "holds token 5, which the exact grammar does not have"),
        ({"tokens": [[1, -7, 3]], "n_variables": [1]}, "holds token -7"),
        ({"tokens": [[1, 0, 3]], "n_variables": [1]}, "holds token 0"),
        ({"tokens": [[1, None, 3]], "n_variables": [1]}, "holds token None"),
        ({"tokens": [[1, 7, 3], None], "n_variables": [1, 1]}, "holds a missing program"),
        ({"tokens": [[1, 7, 3]], "n_variables": [6]}, "has programs of other than 1 to 5 variables"),
        ({"tokens": [[1, 7, 3]], "n_variables": [0]}, "has programs of other than 1 to 5 variables"),
        ({"tokens": [[1, 7, 3]], "n_variables": pa.array([None], pa.int64())}, "has programs of other than 1 to 5"),
    ],
)
def test_other_contents(columns: dict[str, list[object]], message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "programs.parquet")
    _refused(tmp_path, message)


def test_no_programs(copy: Path) -> None:
    for shard in (copy / "data").iterdir():
        pq.write_table(pq.read_table(shard).slice(0, 0), shard)
    _refused(copy, "is empty")


def test_wider_whole_numbers_will_do(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n_variables": [1], "more": ["x"], "tokens": [[1, 7, 3]]}), tmp_path / "programs.parquet")
    assert len(open_corpus(str(tmp_path), "exact")[0]) == 1


def test_a_data_set_of_the_hub_is_the_same_as_its_folder(stored: Callable[[str], Path], hub: HubServer) -> None:
    commit = hub.add("owner/trees", stored("exact"))
    local, sha256 = open_corpus(str(stored("exact")), "exact")
    for revision in (commit, "main"):
        table, same = open_corpus(f"hf-hub:owner/trees@{revision}", "exact")
        assert (table[:]["tokens"].to_pylist(), same) == (local[:]["tokens"].to_pylist(), sha256)
    hub.stop()  # what is in the cache needs no network
    assert open_corpus(f"hf-hub:owner/trees@{commit}", "exact")[1] == sha256


def test_what_is_wrong_with_a_data_set_of_the_hub(stored: Callable[[str], Path], hub: HubServer) -> None:
    hub.add("owner/trees", stored("exact"))
    hub.repositories["owner/other"] = Repository()
    hub.repositories["owner/other"].commit({"README.md": b"nothing\n"})
    hub.repositories["owner/gated"] = Repository(gated=True)

    def refused(name: str, message: str, grammar: str = "exact") -> None:
        with pytest.raises(UserError, match=message) as refusal:
            open_corpus(name, grammar)
        assert "\n" not in str(refusal.value)

    refused("owner/trees", "no folder 'owner/trees' with a corpus: .*, or write hf-hub:OWNER/NAME@REV")
    refused("hf-hub:owner/trees", "names no revision: write hf-hub:owner/trees@REV with a commit hash or tag")
    refused("hf-hub:a b@main", "is not of the form hf-hub:OWNER/NAME@REV")
    refused("hf-hub:owner/nothing@main", "the Hub has no data set 'owner/nothing', or it is private")
    refused("hf-hub:owner/gated@main", "the data set 'owner/gated' is gated: ask for access")
    refused("hf-hub:owner/trees@v9", "the data set 'owner/trees' has no revision 'v9'")
    refused("hf-hub:owner/other@main", "no corpus in 'hf-hub:owner/other@main'")
    refused("hf-hub:owner/trees@main", "is of the exact grammar, not of the weighted one", "weighted")
    hub.stop()
    refused("hf-hub:owner/unknown@main", "no answer from the Hub .* and 'owner/unknown' at 'main' is not in the cache")
