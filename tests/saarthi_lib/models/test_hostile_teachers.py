"""Malicious or damaged teachers: their code never runs, and the error names the fault."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from saarthi_lib.errors import TeacherError
from saarthi_lib.models.sources import word_embeddings
from saarthi_lib.models.teacher import pretrained_teacher

SPECIAL = {"begin": 0, "end": 1, "pad": 2, "unknown": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = BertConfig(
        vocab_size=12,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def load(folder: Path) -> None:
    pretrained_teacher(str(folder), list(range(12)), SPECIAL, 2, 0, 0.1)


class Attack:
    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.made),)


def test_plain_teacher_is_loaded(folder: Path) -> None:
    load(folder)
    assert word_embeddings(str(folder)).shape == (12, 8)


def test_pickled_weights_are_refused_unread(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(
        {"embeddings.word_embeddings.weight": Attack(tmp_path / "owned")},
        folder / "pytorch_model.bin",
    )

    for read in (load, lambda folder: word_embeddings(str(folder))):
        with pytest.raises(TeacherError, match="teacher"):
            read(folder)
    assert not (tmp_path / "owned").exists()


def test_code_of_a_teacher_is_not_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["model_type"] = "its-own"
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    owned = tmp_path / "owned"
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(owned)!r})\n", encoding="utf-8")

    with pytest.raises(TeacherError, match="cannot be loaded"):
        load(folder)
    assert not owned.exists()


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**40) + b"{}",  # a header of a terabyte
        struct.pack("<Q", 99_000_000) + b"{" * 1000,
        struct.pack("<Q", 2) + b"{}",
        b"",
        b"garbage" * 100,
    ],
)
def test_invalid_weights_are_a_teacher_error(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)

    with pytest.raises(TeacherError, match="teacher"):
        load(folder)
    with pytest.raises(TeacherError, match="teacher"):
        word_embeddings(str(folder))


def test_tensor_of_another_size_is_a_teacher_error(folder: Path) -> None:
    save_file(
        {"embeddings.word_embeddings.weight": torch.zeros(3, 5)}, folder / "model.safetensors"
    )

    with pytest.raises(TeacherError, match="cannot be loaded"):
        load(folder)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "{", '{"model_type": "bert", "hidden_size": -1}']
)
def test_invalid_configuration_is_a_teacher_error(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content, encoding="utf-8")

    with pytest.raises(TeacherError, match="cannot be loaded"):
        load(folder)
