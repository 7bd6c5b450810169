"""The teacher's tokenizer and embeddings, and the vocabulary trimmed to the texts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.alike import most_alike
from saarthi_lib.data.preprocess.prepared import Prepared
from saarthi_lib.errors import TeacherError
from saarthi_lib.models.sources import resolve_teacher, word_embeddings
from saarthi_lib.storage import read_json, write_json
from saarthi_lib.tasks import has_token_head
from saarthi_lib.text.trim import trim_tokenizer
from saarthi_lib.text.words import words_of


@dataclass
class TeacherText:
    """Tokenizer and embedding table of a pretrained teacher, loaded on first use."""

    name: str

    @cached_property
    def tokenizer(self) -> dict[str, Any]:
        """Content of its `tokenizer.json`."""
        source = resolve_teacher(self.name)
        content: dict[str, Any]
        if isinstance(source, Path) and (source / "tokenizer.json").is_file():
            content = read_json(source / "tokenizer.json")
            return content
        from transformers import AutoTokenizer

        try:
            fast = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
        except (OSError, ValueError, RecursionError) as error:
            raise TeacherError(
                f"the tokenizer of teacher '{self.name}' cannot be read from {source}: {error}"
            ) from error
        content = json.loads(fast.backend_tokenizer.to_str())
        return content

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """Word embeddings, [vocabulary, width]."""
        return word_embeddings(self.name)


def write_vocabulary(config: TrainConfig, prepared: Prepared, teacher: TeacherText) -> int:
    """Trim the teacher's tokenizer to the train and transfer rows; returns the tokens kept."""

    def texts() -> Iterator[str]:
        for split in ("train", "transfer"):
            for chunk in prepared.chunks(split):
                yield from chunk["text"]

    by_word = has_token_head(config.task)
    trimmed = trim_tokenizer(
        teacher.tokenizer,
        texts(),
        (words_of(text, config.word_splitting) for text in texts()) if by_word else (),
        extra_tokens=config.vocabulary_extra_tokens,
        likeness=partial(most_alike, teacher.table) if config.vocabulary_extra_tokens else None,
    )
    out = prepared.folder
    write_json(out / "tokenizer.json", trimmed.tokenizer)
    write_json(out / "vocabulary.json", {"kept_ids": trimmed.kept_ids, "special": trimmed.special})
    tokens = sorted(prepared.tokenizer.vocabulary().items(), key=lambda item: item[1])
    write_json(out / "distil_vocab.json", dict(tokens))
    return len(trimmed.kept_ids)
