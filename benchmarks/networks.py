"""Networks that the speed benchmarks compare: random weights behind the real predictor.

Latency does not depend on the weights, so nothing is trained. All networks use the tokenizer and
the labels of one bundle, made from the demonstration data with a fixed seed.
"""

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT
from transformers import AutoModel, BertConfig, PretrainedConfig, XLMRobertaConfig
from transformers.utils import logging

from saarthi_lib import steps
from saarthi_lib.bundle.manifest import MODEL, ONNX_MODEL
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.evaluation.evaluate import NetworkEngine
from saarthi_lib.export import onnx, torchscript
from saarthi_lib.inference.engine import Engine, Ids, Logits, OnnxEngine, TorchScriptEngine
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.models.encoders import FAMILIES
from saarthi_lib.models.student import Student, StudentShape, save_student
from saarthi_lib.models.teacher import ServedTeacher, Teacher
from saarthi_lib.recipe import STUDENT_PRESETS

MAX_SEQ_LEN = 26  # length to which the classic student pads
FILES = {"torchscript": MODEL, "onnxruntime": ONNX_MODEL}
PRECISIONS = ("float32", "float16", "int8")
CLASSIC = "classic student, E 300 H 600, padded to 26"
XLMR = "XLM-R-base-sized, eager float32"
TEACHER = "teacher (multilingual-e5-small-sized), eager float32"


@dataclass(frozen=True)
class Network:
    """A predictor, the name of its row, and the size of its model file (0 if unknown)."""

    name: str
    predictor: Predictor
    bytes: int = 0


class Demo:
    """Prepared demonstration data, and networks of its vocabulary and labels.

    Args:
        folder: folder to write.
        quick: use a small teacher's tokenizer, and transformers with one layer.
    """

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder, quick
        fields = {
            "teacher_name": "minilm" if quick else "multilingual-e5-small",
            "max_seq_len": MAX_SEQ_LEN,
            "augmentation_size": 0,
            "vocabulary_extra_tokens": 4000,
            "max_quantization_loss": 1,  # the weights are random
        }
        config = TrainConfig.from_yaml(ROOT / "configs" / "intents.yaml", fields)
        steps.preprocess(config, folder / "data")
        self.config = steps.resolved(config, folder / "data")
        self.data = Prepared(folder / "data")

    def bundle(self) -> Path:
        """Write an int8 bundle with a student of the default size."""
        student, out = self.folder / "student", self.folder / "int8"
        student.mkdir()
        save_student(self.student("lstm", "small"), student)
        network = steps.TrainedNetwork("student", student)
        steps.quantize(self.config, self.folder / "data", network, out)
        return out / "bundle"

    def student(self, family: str, preset: str) -> Student:
        """A student of a family and a preset."""
        embedding, hidden, layers = STUDENT_PRESETS[preset][family]
        shape = StudentShape(
            vocabulary=len(self.data.vocabulary["kept_ids"]),
            embedding=embedding,
            hidden=hidden,
            layers=layers,
            projection=384,  # width of the teacher
            sequence_labels=len(self.data.labels.sequence),
            token_labels=0,
            family=family,
        )
        torch.manual_seed(0)
        return Student(shape).eval()

    def networks(self) -> Iterator[Network]:
        """Two transformers, the classic student, and our students in each engine and precision."""
        bundle = self.bundle()

        def behind(engine: Engine) -> Predictor:
            predictor = Predictor.load(bundle)
            predictor.engine = engine
            return predictor

        for name in (XLMR, TEACHER):
            yield Network(name, behind(NetworkEngine(ServedTeacher(self._encoder(name)))))
        wide = self.folder / "classic.pt"
        torchscript.export_student(self.student("lstm", "base"), wide, "float32")
        yield Network(CLASSIC, behind(PaddedEngine(wide)))
        for family in ("lstm",) if self.quick else FAMILIES:
            for preset in ("small",) if self.quick else STUDENT_PRESETS:
                student = self.student(family, preset)
                for engine, file in FILES.items():
                    for precision in PRECISIONS:
                        path = self.folder / file
                        made = exported(student, path, engine, precision)
                        name = f"{name_of(family, preset)}, {engine}, {precision}"
                        yield Network(name, behind(made), path.stat().st_size)

    def _encoder(self, name: str) -> Teacher:
        """A teacher of a published size; a smaller embedding table does not change its latency."""
        sizes: dict[str, Any] = {
            "vocab_size": len(self.data.vocabulary["kept_ids"]),
            "num_hidden_layers": 1 if self.quick else 12,
            "num_attention_heads": 12,
        }
        configs: dict[str, PretrainedConfig] = {
            XLMR: XLMRobertaConfig(
                hidden_size=768, intermediate_size=3072, max_position_embeddings=514, **sizes
            ),
            TEACHER: BertConfig(
                hidden_size=384, intermediate_size=1536, max_position_embeddings=512, **sizes
            ),
        }
        logging.set_verbosity_error()
        torch.manual_seed(0)
        torch.set_num_threads(1)
        encoder: Any = AutoModel.from_config(configs[name], add_pooling_layer=False)
        labels = len(self.data.labels.sequence)
        return Teacher(encoder, self.data.vocabulary["special"], labels, 0).eval()


def add_bundle_option(parser: argparse.ArgumentParser) -> None:
    """Add the bundle to measure."""
    parser.add_argument("bundle", nargs="?", type=Path, help="default: one with random weights")


def bundle_of(options: argparse.Namespace, folder: Path) -> Path:
    """The bundle of the command line, or a new one."""
    bundle: Path = options.bundle or Demo(folder / "demo", options.quick).bundle()
    return bundle.resolve()


def name_of(family: str, preset: str) -> str:
    """Name of a student in a table."""
    embedding, hidden, layers = STUDENT_PRESETS[preset][family]
    return f"{family} {preset}, E {embedding} H {hidden}" + (f" L {layers}" if layers > 1 else "")


def exported(student: Student, file: Path, engine: str, precision: str) -> Engine:
    """Export a student, and load it."""
    if engine == "torchscript":
        torchscript.export_student(student, file, precision)
        return TorchScriptEngine(file)
    onnx.export_student(student, file, precision)
    return OnnxEngine(file)


class PaddedEngine:
    """A TorchScript network that reads the padding too, like one traced at a fixed length."""

    def __init__(self, file: Path) -> None:
        self._engine = TorchScriptEngine(file)

    def run(self, ids: Ids, lengths: Ids) -> tuple[Logits | None, Logits | None]:
        """Run the network; see `Engine.run`."""
        padded = np.pad(ids, ((0, 0), (0, MAX_SEQ_LEN - ids.shape[1])))
        return self._engine.run(padded, np.full_like(lengths, MAX_SEQ_LEN))


class Texts:
    """Random texts of exact lengths, from the words of the training texts by their frequency."""

    def __init__(self, data: Prepared) -> None:
        self.tokenizer = data.tokenizer
        table = data.table("train")
        self._words = [
            [(word, self._length(word)) for text in texts for word in text.split()]
            for _, texts in table.groupby("lang")["text"]
        ]

    def _length(self, text: str) -> int:
        return len(self.tokenizer.encode_text(text, 2 * MAX_SEQ_LEN).ids)

    def of(self, tokens: int, count: int) -> list[str]:
        """Texts of this many tokens; the languages take turns."""
        draw = random.Random(tokens)
        return [
            self._text(tokens, self._words[number % len(self._words)], draw)
            for number in range(count)
        ]

    def _text(self, tokens: int, words: list[tuple[str, int]], draw: random.Random) -> str:
        chosen: list[str] = []
        left = tokens
        while left:
            word, length = draw.choice(words)
            if length <= left:
                chosen.append(word)
                left -= length
        text = " ".join(chosen)
        assert self._length(text) == tokens, text
        return text
