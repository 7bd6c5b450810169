"""Check that the layout of a CoNLL file is certain, and recognize a row of names."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from saarthi_lib.data.formats.columns import (
    BIO_LIKE,
    PART_OF_SPEECH,
    SPEECH_COLUMNS,
    TAG_COLUMNS,
    TEXT_COLUMNS,
    WORD_COLUMNS,
    Columns,
)
from saarthi_lib.data.tag_schemes import detect_form, is_well_formed
from saarthi_lib.errors import DataError
from saarthi_lib.tasks import OUTSIDE

# Phrases of CoNLL-2000 and of the Indian treebanks: tags of chunks, not of entities.
_PHRASES = {
    *("NP", "VP", "PP", "ADJP", "ADVP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP"),
    *("VGF", "VGNF", "VGNN", "JJP", "RBP", "CCP", "NEGP", "FRAGP", "BLK"),
}
_SURE_SHARE = 0.95
_LONGEST = 100  # words of a sentence, if the file has only one; with full stops inside:
_LONG = 20
_STOPS = (".", "?", "!", "।", "。", "？", "！", "؟", "۔")
_FULL = 2
_ENDS = ("-EOS-", "<EOS>", "<eos>", "</s>", "[EOS]", "[SEP]", "EOS")
# Names in a first line that names the columns.
_WORD_NAMES = {*WORD_COLUMNS, "word", "token", "form", *TEXT_COLUMNS[:1]}
_TAG_NAMES = {
    *(*TAG_COLUMNS, *SPEECH_COLUMNS, "tag", "ner", "ner_tag", "pos_tag", "entity", "slot"),
    *("bio", "iob", "iob2", "bio_tag", "iob_tag", "ne", "ne_tag"),
}
_OTHER_NAMES = {
    *("id", "idx", "index", "no", "no.", "#", "sentence", "sentence_id", "sent_id", "lemma"),
    *("chunk", "chunk_tag", "chunk_tags", "feats", "head", "deprel", "deps", "misc", "_"),
}
_GLUED = re.compile(
    r"\S+[/|](?:[Oo]|[BIESLUMW][-_]\S+|[A-Z][A-Z0-9_$-]*|[^\w\s]{1,4})"
)  # a word and its tag
_REMEDY = "write a word and its tag in each line, and a blank line after each sentence"


def is_header(cells: Sequence[str]) -> bool:
    """Whether the cells of a file's first line name columns, such as `token` and `ner_tag`."""
    names = {cell.lower() for cell in cells}
    return (
        len(cells) > 1
        and cells[-1].lower() not in _WORD_NAMES
        and bool(names & _WORD_NAMES)
        and bool(names & _TAG_NAMES)
        and names <= _WORD_NAMES | _TAG_NAMES | _OTHER_NAMES
    )


def check_sentences(
    path: Path, sentences: int, first: Sequence[Sequence[str]], restart: int
) -> None:
    """Raise a DataError if blank lines between sentences are missing.

    Args:
        path: the file.
        sentences: number of sentences.
        first: lines of the first sentence.
        restart: line in which a sentence begins inside another; 0: none.
    """
    remedy = "put a blank line after each sentence"
    if restart:
        raise DataError(
            f"{path}: row {restart}: a sentence begins without a blank line before it; {remedy}"
        )
    if sentences != 1:
        return
    inner = sum(not {*_STOPS}.isdisjoint(cells) for cells in first[:-1])
    ended = any(not {*_ENDS}.isdisjoint(cells) for cells in first[:-1])
    if ended or len(first) > (_LONG if inner >= _FULL else _LONGEST):
        raise DataError(
            f"{path}: all {len(first)} words are one sentence, since no blank line ends one; "
            f"{remedy}"
        )


def check_lines(path: Path, lines: Sequence[str]) -> None:
    """Raise a DataError if the first lines hold several words, each with its tag."""
    if shown := words_and_tags(lines):
        raise DataError(
            f"{path}: each line holds several words, each with its tag ({', '.join(shown)}); "
            f"{_REMEDY}"
        )


def words_and_tags(lines: Sequence[str]) -> list[str]:
    """The first words with their tags, if lines hold several of both; else empty."""
    several = [line for line in lines if len(line.split()) > 1]
    glued = [line for line in several if all(map(_GLUED.fullmatch, line.split()))]
    parted = [pairs for line in several if len(pairs := _pairs_of(line)) > 1]
    if several and 10 * len(glued) > 9 * len(several):
        return glued[0].split()[:2]
    if parted and 2 * len(parted) > len(lines) and _are_pairs(parted):
        return [" ".join(pair) for pair in parted[0][:2]]
    return []


def _pairs_of(line: str) -> list[list[str]]:
    """Words and tags of a line, if it may hold several of both; else empty."""
    cells = line.strip().split("\t")
    pairs = [cell.split() for cell in cells]
    if len(cells) == 1:
        parts = pairs[0]
        pairs = [parts[at : at + 2] for at in range(0, len(parts), 2)]
        if not all(BIO_LIKE.fullmatch(tag) for _, *tags in pairs for tag in tags):
            return []
    return pairs if all(len(pair) == 2 for pair in pairs) else []


def _are_pairs(lines: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Whether the second parts of pairs are tags, and the first ones are not."""
    words = [pair[0] for pairs in lines for pair in pairs[1:]]
    tags = [pair[1] for pairs in lines for pair in pairs]
    return 10 * sum(map(_is_tag, tags)) > 9 * len(tags) and 2 * sum(map(_is_tag, words)) < len(
        words
    )


def _is_tag(text: str) -> bool:
    return bool(BIO_LIKE.fullmatch(text) or PART_OF_SPEECH.fullmatch(text))


def are_entities(tags: Counter[str]) -> bool:
    """Whether values of a column are entity tags with letters."""
    form = detect_form(tags)
    good = sum(n for tag, n in tags.items() if is_well_formed(tag, form))
    marked = any(form.parts(tag) for tag in tags if tag not in form.outside)
    return marked and bool(form.letters) and good >= _SURE_SHARE * tags.total()


def _are_chunks(tags: Counter[str]) -> bool:
    form = detect_form(tags)
    labels = {parts[1].upper() for tag in tags if (parts := form.parts(tag))}
    return bool(labels) and labels <= _PHRASES


def check_choice(
    path: Path, values: Sequence[Counter[str]], word_at: int, columns: Columns
) -> None:
    """Raise a DataError if the last column is perhaps not that of the task's tags."""
    last = len(values) - 1
    kinds = {at: are_entities(values[at]) for at in range(word_at + 1, len(values))}
    if columns.entities:
        entities = [at for at, marked in kinds.items() if marked and not _are_chunks(values[at])]
        others = [at for at in entities if at != last]
        if others:
            also = f", and so may column {last + 1}" if last not in entities else ""
            listed = " and ".join(f"{at + 1} ({_shown(values[at])})" for at in entities)
            raise DataError(
                f"{path}: column {listed} {'hold' if len(entities) > 1 else 'holds'} entity "
                f"tags{also}; set {columns.tags_field} to the number of one"
            )
    elif columns.entities is None and not columns.sequence and OUTSIDE not in values[last]:
        others = [at for at, marked in kinds.items() if marked and not _are_chunks(values[at])]
        if others and last not in others:
            raise DataError(
                f"{path}: column {others[0] + 1} holds entity tags ({_shown(values[others[0]])}), "
                f"and the last column others ({_shown(values[last])}); set task, and label_column "
                "to the column's number"
            )
    elif columns.entities is False and kinds.get(last) and OUTSIDE in values[last]:
        others = [at for at, is_entity in kinds.items() if not is_entity]
        listed = ", ".join(f"column {at + 1}: {_shown(values[at])}" for at in others)
        raise DataError(
            f"{path}: the last column holds entity tags ({_shown(values[last])}), not parts of "
            f"speech{'; ' * bool(others)}{listed}; set label_column to a column's number, or task "
            "to ner"
        )


def _shown(values: Counter[str]) -> str:
    common = (value for value, _ in values.most_common() if value != OUTSIDE)
    return ", ".join([value for value, _ in zip(common, range(3), strict=False)])
