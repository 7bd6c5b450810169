"""Losses of a trimmed vocabulary: new words that it splits, and the teacher's metrics on them.

python benchmarks/vocabulary.py [--data FOLDER] [--sets …] [--extra 4000 …]
python benchmarks/vocabulary.py --teachers [--extra 0 4000 8000 16000]

The training rows of a set are halved. The vocabulary is trimmed to the words of one half; counted
are the distinct words of the other that the first has not, and of them those for which the trimmed
tokenizer gives the very pieces that the full one gives, by how the further pieces are chosen.

With `--teachers`, one teacher is fine-tuned on 54% of the training rows with the most further
pieces, rows of its table are taken away, and it is evaluated on 40% that it has not seen.
Validation and test files are not read.
"""

import argparse
import json
import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from common import machine, print_line, print_table
from quality import config_of, fine_tuning, sets_in
from tokenizers import Tokenizer

from saarthi_lib import logs, steps
from saarthi_lib.data.alike import most_alike
from saarthi_lib.data.augment.scripts import is_word
from saarthi_lib.data.gather import gather
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.data.read import find_splits
from saarthi_lib.evaluation.evaluate import evaluate_table
from saarthi_lib.models.sources import resolve_teacher, word_embeddings
from saarthi_lib.models.teacher import Teacher, keep_rows, load_teacher, save_teacher
from saarthi_lib.storage import read_json
from saarthi_lib.text.trim import trim_tokenizer

OF_WORDS, OF_TEACHERS = [4_000], [0, 4_000, 8_000, 16_000]  # further pieces


def main() -> None:
    """Print a table for each number of further pieces, or that of the teachers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", help="folders of --data; all of them by default")
    parser.add_argument("--extra", nargs="+", type=int, help="further pieces")
    parser.add_argument("--seed", type=int, default=0, help="of the halves")
    parser.add_argument("--teachers", action="store_true", help="what they are worth to one")
    arguments = parser.parse_args()
    logs.configure()
    print_line(machine())
    folders = sets_in(arguments.data, arguments.sets)
    extra = sorted(set(arguments.extra or (OF_TEACHERS if arguments.teachers else OF_WORDS)))
    if arguments.teachers:
        mains = [of_teacher(name, folder, extra) for name, folder in folders.items()]
        header = ["set", "train", "unseen", *(f"{count} further" for count in extra)]
        print_table("The teacher's main metric on rows that it has not seen", header, mains)
        return
    by = ("no further pieces", "by frequency", "by the teacher's table")
    header = ["set", "language", "new words", *by]
    for count in extra:
        rows = [
            row
            for name, folder in folders.items()
            for row in of_words(name, folder, count, arguments.seed)
        ]
        print_table(f"Whole words of the other half, {count} further pieces", header, rows)


def of_words(name: str, folder: Path, extra: int, seed: int) -> list[list[str]]:
    """A set's new words and the shares that stay whole, a row a language."""
    config = config_of(name, {"input_path": str(folder)})
    train = gather(folder, config).tables["train"]
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
    teacher = config.teacher_name
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


def of_teacher(name: str, folder: Path, extra: Sequence[int]) -> list[str]:
    """A set's rows of train and unseen ones, and the main metric for each number of pieces.

    Args:
        name: of the set.
        folder: of its files.
        extra: numbers of further pieces, ascending; with the last the teacher is fine-tuned.
    """
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "input").mkdir()
        for file in find_splits(folder)["train"]:
            shutil.copy(file.path, root / "input")
        given = {"input_path": str(root / "input"), "test_fraction": 0.4, "augmentation_size": 0}
        config = config_of(name, given | {"teacher_ensemble": 1})
        prepared = {}
        for count in extra:
            data = root / f"data-{count}"
            steps.preprocess(config.model_copy(update={"vocabulary_extra_pieces": count}), data)
            prepared[count] = Prepared(data)
        most = prepared[extra[-1]]
        config = config.model_copy(update=fine_tuning(config, most))
        steps.train_teacher(config, most.folder, root / "teacher")
        mains = []
        for count, trimmed in prepared.items():
            teacher = root / f"teacher-{count}"
            teacher.mkdir()
            without_rows(root / "teacher", most, trimmed, teacher)
            predictor = steps.network_predictor(trimmed.folder, teacher, "teacher")
            mains.append(evaluate_table(predictor, trimmed.table("test"))[0]["main"])
        rows = [str(most.summary["rows"][split]) for split in ("train", "test")]
        return [name, *rows, *(f"{100 * main:.1f}" for main in mains)]


def without_rows(teacher: Path, most: Prepared, trimmed: Prepared, out: Path) -> None:
    """Write a teacher with the pieces alone that a smaller vocabulary keeps."""
    network = load_teacher(teacher)
    assert isinstance(network, Teacher)
    row_of = {piece: row for row, piece in enumerate(most.vocabulary["kept_ids"])}
    network.special = trimmed.vocabulary["special"]
    kept = [row_of[piece] for piece in trimmed.vocabulary["kept_ids"]]
    keep_rows(network.encoder, kept, network.special["pad"])
    save_teacher(network, out, {})


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
