from pathlib import Path

from saarthi_lib.data.read import Problem, find_splits, read_table
from saarthi_lib.demo.porttinari import SENTENCES, write_porttinari
from tests.conftest import reading


def test_treebank_is_readable_and_reproducible(tmp_path: Path) -> None:
    texts = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_porttinari(folder, seed=3)
        problems: list[Problem] = []
        tables = {
            split: read_table(file, reading(task="pos"), problems=problems)
            for split, [file] in find_splits(folder).items()
        }
        assert {split: len(table) for split, table in tables.items()} == SENTENCES
        assert {problem.kind for problem in problems} == {"multiword-token"}
        assert all((table["lang"] == "portuguese").all() for table in tables.values())
        texts.append([text for table in tables.values() for text in table["text"]])
    assert texts[0] == texts[1]
