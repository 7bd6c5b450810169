"""A real bundle of a few kilobytes for tests: a random BiLSTM, as TorchScript and as ONNX."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn

from saarthi_lib.bundle import BundleManifest, read_manifest, write_bundle
from saarthi_lib.tasks import HEADS, Labels
from saarthi_lib.text.words import split_words

SENTENCES = [
    "turn on the kitchen lights",
    "turn off the lights in the bedroom please",
    "what is the weather in Mumbai tomorrow",
    "play some music by Lata Mangeshkar",
    "set an alarm for 7 in the morning!",
    "रसोई की बत्ती जलाओ",
    "शयनकक्ष की बत्ती बंद करो",
    "मुंबई में कल मौसम कैसा रहेगा?",
    "सुबह सात बजे का अलार्म लगाओ",
    "लता मंगेशकर का गाना बजाओ",
]


def word_columns(texts: Sequence[str]) -> dict[str, list[Any]]:
    """The columns `words`, `starts` and `ends` that a labelled table has for its texts."""
    spans = [split_words(text) for text in texts]
    return {
        "words": [[t[a:b] for a, b in row] for t, row in zip(texts, spans, strict=True)],
        "starts": [[start for start, _ in row] for row in spans],
        "ends": [[end for _, end in row] for row in spans],
    }


SEQUENCE_LABELS = ("alarm", "lights", "music", "weather")
BIO_LABELS = ("O", "B-area", "I-area", "B-person", "I-person")
POS_LABELS = ("NOUN", "VERB", "ADP", "PUNCT")


class TinyNetwork(nn.Module):
    """Embedding, BiLSTM and the heads that the task has, masked by length."""

    def __init__(self, pieces: int, sequence_labels: int, token_labels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(pieces, 12)
        self.lstm = nn.LSTM(12, 8, batch_first=True, bidirectional=True)
        self.sequence_labels = sequence_labels
        self.token_labels = token_labels
        self.sequence = nn.Linear(16, max(1, sequence_labels))
        self.token = nn.Linear(16, max(1, token_labels))

    def forward(
        self, ids: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        hidden, _ = nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1]
        )
        padding = torch.arange(ids.shape[1])[None, :] >= lengths[:, None]
        pooled = hidden.masked_fill(padding[:, :, None], -1e9).max(dim=1).values
        return (
            self.sequence(pooled)[:, : self.sequence_labels],
            self.token(hidden)[:, :, : self.token_labels],
        )


def delivered(trial: Path, folder: Path) -> Path:
    """Write the bundle of a trial run once more, as that of a real run."""
    manifest = replace(read_manifest(trial), trial=False)
    files = {name: trial / name for name in manifest.files}
    write_bundle(folder, files=files, manifest=manifest)
    return folder


def reseal(bundle: Path, content: Mapping[str, Any]) -> None:
    """Write a `bundle.json` with this content and its digest, without checks."""
    zeros = "0" * 64
    text = json.dumps({**content, "digest": zeros}, ensure_ascii=True)
    digest = sha256(text.encode()).hexdigest()
    (bundle / "bundle.json").write_text(
        text.replace(f'"digest": "{zeros}"', f'"digest": "{digest}"')
    )


def write_tiny_bundle(
    folder: Path,
    task: str = "intent_classification",
    trained_with: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Path:
    """Write a bundle for `task`; `fields` go into its manifest, `trained_with` into its config."""
    heads = HEADS[task]
    labels = Labels(
        sequence=SEQUENCE_LABELS if "sequence" in heads else (),
        token=() if "token" not in heads else POS_LABELS if task == "pos" else BIO_LABELS,
    )
    source = folder.with_name(f"{folder.name}-source")
    source.mkdir(parents=True)
    tokenizer = make_tokenizer()
    manifest = BundleManifest(
        name="tiny",
        version="1",
        task=task,
        languages=("english", "hindi"),
        runtime="torchscript",
        precision="float32",
        max_seq_len=26,
        metrics={"main": 0.5},
        made_by={"saarthi": "test"},
    )
    manifest = replace(manifest, **fields)
    config = {"task": task, "max_seq_len": manifest.max_seq_len, **(trained_with or {})}
    tokenizer.save(str(source / "tokenizer.json"))
    (source / "distil_vocab.json").write_text(json.dumps(tokenizer.get_vocab()), encoding="utf-8")
    (source / "training_config.json").write_text(json.dumps(config), encoding="utf-8")
    labels.save(source / "labels.json")
    torchscript, onnx_model = _models(tokenizer.get_vocab_size(), labels.sequence, labels.token)
    (source / "model.pt").write_bytes(torchscript)
    if manifest.runtime == "onnxruntime":
        (source / "model.onnx").write_bytes(onnx_model)
    files = {path.name: path for path in source.iterdir()}
    write_bundle(folder, files=files, manifest=manifest)
    return folder


def make_tokenizer() -> Tokenizer:
    """Make a small tokenizer like SentencePiece's: half of the words above whole, and letters."""
    words = sorted({f"\u2581{word}" for sentence in SENTENCES for word in sentence.split()})
    letters = sorted({letter for word in words for letter in word})
    pieces = [("<unk>", 0.0)]
    pieces += [(word, -1.0) for word in words[::2]]
    pieces += [(letter, -9.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


@cache
def _models(pieces: int, sequence: tuple[str, ...], token: tuple[str, ...]) -> tuple[bytes, bytes]:
    """The network as TorchScript and as ONNX."""
    labels = Labels(sequence, token)
    network = _network(pieces, labels)
    torch.jit.save(torch.jit.script(network), torchscript := BytesIO())
    return torchscript.getvalue(), _onnx_model(network, labels).SerializeToString()


def _network(pieces: int, labels: Labels) -> TinyNetwork:
    network = TinyNetwork(pieces, len(labels.sequence), len(labels.token))
    generator = torch.Generator().manual_seed(2)
    for parameter in network.requires_grad_(False).parameters():
        parameter.normal_(std=0.8, generator=generator)  # wide enough for answers to differ
    network.sequence.bias.zero_()
    return network.eval()


def _onnx_model(network: TinyNetwork, labels: Labels) -> onnx.ModelProto:
    """The same network node by node, because packed sequences cannot be exported."""
    weights = {
        "table": network.embedding.weight.numpy(),
        "W": _gates(network.lstm, "weight_ih_l0"),
        "R": _gates(network.lstm, "weight_hh_l0"),
        "B": np.concatenate(
            [_gates(network.lstm, "bias_ih_l0"), _gates(network.lstm, "bias_hh_l0")], axis=1
        ),
        "shape": np.array([0, 0, 16]),
        "zero": np.array(0),
        "one": np.array(1),
        "time": np.array([1]),
        "last": np.array([2]),
        "lowest": np.array(-1e9, dtype=np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "ids"], ["embedded"]),
        node("Transpose", ["embedded"], ["by_time"], perm=[1, 0, 2]),
        node("Cast", ["lengths"], ["lengths32"], to=TensorProto.INT32),
        node(
            "LSTM",
            ["by_time", "W", "R", "B", "lengths32"],
            ["both_ways"],
            direction="bidirectional",
            hidden_size=8,
        ),
        node("Transpose", ["both_ways"], ["by_row"], perm=[2, 0, 1, 3]),
        node("Reshape", ["by_row", "shape"], ["hidden"]),
        node("Shape", ["ids"], ["steps_1"], start=1, end=2),
        node("Squeeze", ["steps_1"], ["steps"]),
        node("Range", ["zero", "steps", "one"], ["positions"]),
        node("Unsqueeze", ["lengths", "time"], ["lengths_column"]),
        node("Less", ["positions", "lengths_column"], ["real"]),
        node("Unsqueeze", ["real", "last"], ["mask"]),
        node("Where", ["mask", "hidden", "lowest"], ["masked"]),
        node("ReduceMax", ["masked"], ["pooled"], axes=[1], keepdims=0),
    ]
    outputs = []
    for head, names, read in (
        ("sequence", labels.sequence, "pooled"),  # [batch, 16]
        ("token", labels.token, "hidden"),  # [batch, time, 16]
    ):
        if names:
            layer = getattr(network, head)
            weights |= {f"{head}_w": layer.weight.numpy().T, f"{head}_b": layer.bias.numpy()}
            nodes.append(node("MatMul", [read, f"{head}_w"], [f"{head}_product"]))
            nodes.append(node("Add", [f"{head}_product", f"{head}_b"], [f"{head}_logits"]))
            shape = ["batch", "labels"] if head == "sequence" else ["batch", "time", "labels"]
            outputs.append(_tensor(f"{head}_logits", TensorProto.FLOAT, shape))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            _tensor("ids", TensorProto.INT64, ["batch", "time"]),
            _tensor("lengths", TensorProto.INT64, ["batch"]),
        ],
        outputs,
        [numpy_helper.from_array(np.ascontiguousarray(w), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _tensor(name: str, kind: int, shape: list[str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _gates(lstm: nn.LSTM, name: str) -> np.ndarray:
    """PyTorch's gates (input, forget, cell, output) in ONNX's order, both directions stacked."""
    directions = []
    for suffix in ("", "_reverse"):
        i, f, g, o = np.split(getattr(lstm, name + suffix).numpy(), 4)
        directions.append(np.concatenate([i, o, f, g]))
    return np.stack(directions)
