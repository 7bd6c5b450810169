"""Networks that the benchmarks of inference compare: random weights behind the real predictor.

Times do not depend on the weights, so the networks need no training. All use the tokenizer, labels
and texts of the demonstration data, and one fixed seed.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, BertConfig, PretrainedConfig, XLMRobertaConfig
from transformers.utils import logging

from saarthi_lib.bundle import BundleManifest
from saarthi_lib.bundle.manifest import MODEL, ONNX_MODEL
from saarthi_lib.data.alike import most_alike
from saarthi_lib.demo.home_assistant import write_home_assistant
from saarthi_lib.evaluation.evaluate import NetworkEngine
from saarthi_lib.export import onnx, torchscript
from saarthi_lib.inference.engine import Engine, Ids, Logits, OnnxEngine, TorchScriptEngine
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.models.encoders import FAMILIES
from saarthi_lib.models.sources import E5, resolve_teacher, word_embeddings
from saarthi_lib.models.student import Student, StudentShape
from saarthi_lib.models.teacher import ServedTeacher, Teacher
from saarthi_lib.recipe import STUDENT_PRESETS
from saarthi_lib.storage import read_json
from saarthi_lib.tasks import Labels
from saarthi_lib.text.tokenizer import SubwordTokenizer
from saarthi_lib.text.trim import trim_tokenizer

SEED = 0
MAX_SEQ_LEN = 26
EXTRA_PIECES = 4000  # as in the default configuration
MODELS = {"torchscript": MODEL, "onnxruntime": ONNX_MODEL}
ENGINES = tuple(MODELS)
PRECISIONS = ("float32", "float16", "int8")
CLASSIC = "classic student, E 300 H 600, padded to 26"
XLMR = "XLM-R-base-sized"
TEACHER = "teacher (multilingual-e5-small-sized)"


class Demo:
    """Tokenizer, labels and texts from the demonstration data."""

    def __init__(self, folder: Path) -> None:
        write_home_assistant(folder, transfer_rows=0, seed=SEED)
        lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        full = read_json(Path(resolve_teacher(E5)) / "tokenizer.json")
        trimmed = trim_tokenizer(
            full,
            [row["text"] for row in rows],
            extra_tokens=EXTRA_PIECES,
            likeness=partial(most_alike, word_embeddings(E5)),
        )
        self.special = trimmed.special
        self.pieces = len(trimmed.kept_ids)
        self.tokenizer = SubwordTokenizer(Tokenizer.from_str(json.dumps(trimmed.tokenizer)))
        self.labels = Labels(sequence=tuple(sorted({row["intent"] for row in rows})))
        self.manifest = BundleManifest(
            format=1,
            name="benchmark",
            version="1",
            task="intent_classification",
            languages=("english", "hindi"),
            runtime="onnxruntime",
            precision="float32",
            created="2026-01-01T00:00:00+00:00",
            max_seq_len=MAX_SEQ_LEN,
            threshold=0.5,
            metrics={},
            made_by={},
            files={},
        )
        self._words = [
            [(word, len(self.tokenizer.encode_text(word, MAX_SEQ_LEN).ids)) for word in words]
            for words in (
                [word for row in rows if row["lang"] == lang for word in row["text"].split()]
                for lang in sorted({row["lang"] for row in rows})
            )
        ]

    def texts(self, pieces: int, count: int = 20) -> list[str]:
        """Texts of exactly this many tokens, with the data's words by their frequency.

        The languages take turns.
        """
        draw = random.Random(f"{SEED} {pieces}")
        return [
            self._text(pieces, self._words[number % len(self._words)], draw)
            for number in range(count)
        ]

    def _text(self, pieces: int, words: list[tuple[str, int]], draw: random.Random) -> str:
        chosen: list[str] = []
        left = pieces
        while left:
            word, size = draw.choice(words)
            if size <= left:
                chosen.append(word)
                left -= size
        text = " ".join(chosen)
        assert len(self.tokenizer.encode_text(text, 2 * pieces).ids) == pieces, text
        return text

    def predictor(self, engine: Engine) -> Predictor:
        """A predictor like that of `Predictor.load`, around any engine."""
        return Predictor(self.manifest, self.labels, self.tokenizer, engine)


@dataclass(frozen=True)
class Contender:
    """A predictor and the name of its row; our students also have a shape and a size in bytes."""

    name: str
    predictor: Predictor
    shape: StudentShape | None = None
    precision: str = "float32"
    size: int = 0


def student_shape(demo: Demo, family: str, preset: str) -> StudentShape:
    """A student of a family and a preset for the demonstration task."""
    embedding, hidden, layers = STUDENT_PRESETS[preset][family]
    return StudentShape(
        vocabulary=demo.pieces,
        embedding=embedding,
        hidden=hidden,
        layers=layers,
        projection=384,  # the teacher's width
        sequence_labels=len(demo.labels.sequence),
        token_labels=0,
        family=family,
    )


def line_up(
    demo: Demo, folder: Path, quick: bool, transformers: tuple[str, ...] = (XLMR, TEACHER)
) -> list[Contender]:
    """All contenders; a quick run has one-layer transformers and two of our students."""
    return [
        *encoders(demo, folder, transformers, layers=1 if quick else 12),
        classic(demo, folder),
        *ours(demo, folder, *((("lstm", "qrnn"), ("small",)) if quick else ())),
    ]


def ours(
    demo: Demo,
    folder: Path,
    families: Sequence[str] = FAMILIES,
    presets: Sequence[str] = tuple(STUDENT_PRESETS),
) -> Iterator[Contender]:
    """Our student in every engine and precision."""
    for family in families:
        for preset in presets:
            shape = student_shape(demo, family, preset)
            student = _student(shape)
            for engine in ENGINES:
                for precision in PRECISIONS:
                    model = _exported(student, folder, engine, precision)
                    yield Contender(
                        f"{name_of(family, preset)}, {engine}, {precision}",
                        demo.predictor(model),
                        shape,
                        precision,
                        (folder / MODELS[engine]).stat().st_size,
                    )


def name_of(family: str, preset: str) -> str:
    """Name of a student in a table."""
    embedding, hidden, layers = STUDENT_PRESETS[preset][family]
    return f"{family} {preset}, E {embedding} H {hidden}" + (f" L {layers}" if layers > 1 else "")


def classic(demo: Demo, folder: Path) -> Contender:
    """The earlier product: a large student in TorchScript that always reads 26 tokens."""
    engine = _exported(
        _student(student_shape(demo, "lstm", "base")), folder, "torchscript", "float32"
    )
    return Contender(CLASSIC, demo.predictor(_Padded(engine)))


def encoders(
    demo: Demo, folder: Path, names: tuple[str, ...] = (XLMR, TEACHER), layers: int = 12
) -> Iterator[Contender]:
    """Transformers in eager PyTorch, and in TorchScript as in a teacher's int8 bundle."""
    for name in names:
        teacher = sized_teacher(name, demo.special, demo.labels, demo.pieces, layers)
        file = folder / "encoder.pt"
        torchscript.export_teacher(teacher, file, "int8")
        torch.set_num_threads(1)
        eager = NetworkEngine(ServedTeacher(teacher))
        yield Contender(f"{name}, eager float32", demo.predictor(eager))
        yield Contender(f"{name}, int8", demo.predictor(TorchScriptEngine(file)))


def sized_teacher(
    name: str, special: dict[str, int], labels: Labels, pieces: int, layers: int = 12
) -> Teacher:
    """A teacher of a published size, with a trimmed vocabulary of `pieces` tokens.

    The size of the embedding table does not change the time of a look-up.
    """
    sizes: dict[str, PretrainedConfig] = {
        XLMR: XLMRobertaConfig(
            vocab_size=pieces,
            num_hidden_layers=layers,
            hidden_size=768,
            num_attention_heads=12,
            intermediate_size=3072,
            max_position_embeddings=514,
        ),
        TEACHER: BertConfig(
            vocab_size=pieces,
            num_hidden_layers=layers,
            hidden_size=384,
            num_attention_heads=12,
            intermediate_size=1536,
            max_position_embeddings=512,
        ),
    }
    logging.set_verbosity_error()
    torch.manual_seed(SEED)
    encoder: Any = AutoModel.from_config(sizes[name], add_pooling_layer=False)
    return Teacher(encoder, special, len(labels.sequence), len(labels.token)).eval()


class _Padded:
    """An engine whose network reads the padding too, like a network traced at a fixed length."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, ids: Ids, lengths: Ids) -> tuple[Logits | None, Logits | None]:
        padded = np.pad(ids, ((0, 0), (0, MAX_SEQ_LEN - ids.shape[1])))
        return self._engine.run(padded, np.full_like(lengths, MAX_SEQ_LEN))


def _student(shape: StudentShape) -> Student:
    torch.manual_seed(SEED)
    return Student(shape).eval()


def _exported(student: Student, folder: Path, engine: str, precision: str) -> Engine:
    file = folder / MODELS[engine]
    if engine == "torchscript":
        torchscript.export_student(student, file, precision)
        return TorchScriptEngine(file)
    onnx.export_student(student, file, precision)
    return OnnxEngine(file)
