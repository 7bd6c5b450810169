"""How many new words a trimmed vocabulary leaves whole, by how its further pieces are chosen.

python benchmarks/vocabulary.py [--data FOLDER] [--sets …] [--extra 4000]

The training rows of a set are halved. The vocabulary is trimmed to the words of one half; counted
are the distinct words of the other that the first has not, and of them those for which the trimmed
tokenizer gives the very pieces that the full one gives. Validation and test are not read.
"""

import argparse
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from common import machine, print_line, print_table
from quality import SETS
from tokenizers import Tokenizer

from saarthi_lib import logs
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.alike import most_alike
from saarthi_lib.data.augment.scripts import is_word
from saarthi_lib.data.gather import gather
from saarthi_lib.models.sources import resolve_teacher, word_embeddings
from saarthi_lib.storage import read_json
from saarthi_lib.text.trim import trim_tokenizer


def main() -> None:
    """Print the table: a set and language a row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--extra", type=int, default=4_000, help="further pieces")
    parser.add_argument("--seed", type=int, default=0, help="of the halves")
    arguments = parser.parse_args()
    logs.configure()
    print_line(machine())
    rows = []
    for name in arguments.sets:
        folder = arguments.data / name
        if folder.is_dir():
            rows += of_set(name, folder, arguments.extra, arguments.seed)
        else:
            print_line(f"{name}: skipped, there is no {folder}")
    by = ("no further pieces", "by frequency", "by the teacher's table")
    header = ["set", "language", "new words", *by]
    print_table(f"Whole words of the other half, {arguments.extra} further pieces", header, rows)


def of_set(name: str, folder: Path, extra: int, seed: int) -> list[list[str]]:
    """The table's rows for a set."""
    fields = {key: SETS[name][key] for key in ("task", "language") if key in SETS[name]}
    given = {"root_output_path": "unused", "unknown_labels": "keep", "input_path": str(folder)}
    train = gather(folder, TrainConfig.from_mapping(fields | given)).tables["train"]
    words = [
        list(row["words"]) if "words" in train else row["text"].split()
        for row in train.to_dict("records")
    ]
    first = np.random.default_rng(seed).permutation(len(words)) < len(words) // 2
    known = {word for sentence, half in zip(words, first, strict=True) if half for word in sentence}
    new: dict[str, set[str]] = {}
    for sentence, lang, half in zip(words, train["lang"], first, strict=True):
        if not half:
            new.setdefault(lang, set()).update(w for w in sentence if w not in known and is_word(w))
    teacher = SETS[name]["teacher_name"]
    content = read_json(Path(resolve_teacher(teacher)) / "tokenizer.json")
    full = bare(content)
    likeness = partial(most_alike, word_embeddings(teacher))
    trimmed = [
        bare(trim_tokenizer(content, (), [sorted(known)], pieces, by).tokenizer)
        for pieces, by in ((0, None), (extra, None), (extra, likeness))
    ]
    return [
        [
            name,
            lang,
            str(len(distinct)),
            *(f"{100 * whole(distinct, full, each):.1f}" for each in trimmed),
        ]
        for lang, distinct in sorted(new.items())
    ]


def bare(content: dict[str, object]) -> Tokenizer:
    """The tokenizer without padding and truncation."""
    return Tokenizer.from_str(json.dumps(content | {"padding": None, "truncation": None}))


def whole(words: Iterable[str], full: Tokenizer, trimmed: Tokenizer) -> float:
    """The share of words that both tokenizers give the same pieces."""
    lists = [[word] for word in sorted(words)]
    pieces = [
        [
            encoding.tokens
            for encoding in tokenizer.encode_batch_fast(
                lists, is_pretokenized=True, add_special_tokens=False
            )
        ]
        for tokenizer in (full, trimmed)
    ]
    return float(np.mean([before == after for before, after in zip(*pieces, strict=True)]))


if __name__ == "__main__":
    main()
