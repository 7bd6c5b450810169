"""Engines run a bundle's network: TorchScript or ONNX Runtime.

Each engine imports its library when it is created, so one of the two libraries is enough to serve.
"""

from importlib import import_module
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol
from zipfile import BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt

from saarthi_lib.bundle import BundleManifest, read_verified
from saarthi_lib.bundle.manifest import MODEL, ONNX_MODEL, RUNTIMES
from saarthi_lib.errors import BundleError
from saarthi_lib.inference.onnx_wire import check_onnx

_UNPACKED_BYTES = 16 << 20  # limit for the code of a TorchScript file; only code is compressed

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]


class Engine(Protocol):
    """A loaded network. `run` may be called from several threads at once."""

    def run(self, ids: Ids, lengths: Ids) -> tuple[Logits | None, Logits | None]:
        """Run the network on a padded batch.

        Args:
            ids: token ids, [batch, time]; positions beyond a row's length are not read.
            lengths: number of tokens in each row, [batch], at least 1.

        Returns:
            Sequence logits [batch, classes] and token logits [batch, time, tags]; None for a head
            that the task does not have.
        """
        ...


class TorchScriptEngine:
    """Runs a scripted or traced `model.pt`.

    PyTorch has one number of threads for the process: the last engine sets it for all.

    Args:
        model: the model file.
        threads: threads for one run.
        content: content of the file, if it was read already.

    Raises:
        BundleError: torch is not installed, or the file is not a TorchScript model.
    """

    def __init__(self, model: Path, threads: int = 1, content: bytes | None = None) -> None:
        torch = _require("torch", "torch")
        torch.set_num_threads(threads)
        content = model.read_bytes() if content is None else content
        _check_archive(content, model)
        try:
            # Weights stored in half precision are widened to float32.
            loaded = torch.jit.load(BytesIO(content), map_location="cpu")
            self._model = loaded.eval().float()
        except Exception as error:  # torch raises many types for a broken archive
            raise BundleError(f"{model}: is not a TorchScript model; export it again") from error
        self._from_numpy = torch.from_numpy
        self._inference_mode = torch.inference_mode

    def run(self, ids: Ids, lengths: Ids) -> tuple[Logits | None, Logits | None]:
        """Run the network on a padded batch; see `Engine.run`."""
        with self._inference_mode():
            sequence, token = self._model(self._from_numpy(ids), self._from_numpy(lengths))
        return (
            sequence.numpy() if sequence.shape[-1] else None,
            token.numpy() if token.shape[-1] else None,
        )


class OnnxEngine:
    """Runs a `model.onnx` on ONNX Runtime, on the CPU.

    Args:
        model: the model file.
        threads: threads for one run.
        content: content of the file, if it was read already.

    Raises:
        BundleError: onnxruntime is not installed, or the file is not a model it can run.
    """

    def __init__(self, model: Path, threads: int = 1, content: bytes | None = None) -> None:
        onnxruntime = _require("onnxruntime", "onnx")
        content = model.read_bytes() if content is None else content
        check_onnx(content, model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        # ONNX Runtime has a format of its own, and would load it from the same bytes.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # Idle threads would spin on a core that the server's other threads need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors have no common base class
            reason = str(error)[:300]
            raise BundleError(f"{model}: ONNX Runtime cannot load it ({reason})") from error
        outputs = [output.name for output in self._session.get_outputs()]
        self._outputs = [name for name in ("sequence_logits", "token_logits") if name in outputs]
        if not self._outputs:
            raise BundleError(
                f"{model}: gives neither 'sequence_logits' nor 'token_logits'; export it again"
            )

    def run(self, ids: Ids, lengths: Ids) -> tuple[Logits | None, Logits | None]:
        """Run the network on a padded batch; see `Engine.run`."""
        values = self._session.run(self._outputs, {"ids": ids, "lengths": lengths})
        if len(values) == 2:
            return values[0], values[1]
        return (values[0], None) if self._outputs[0] == "sequence_logits" else (None, values[0])


def load_engine(
    folder: str | Path, manifest: BundleManifest, threads: int = 1, runtime: str | None = None
) -> Engine:
    """Load the network of a verified bundle.

    Args:
        folder: the bundle.
        manifest: the bundle's manifest.
        threads: threads that one prediction may use.
        runtime: `onnxruntime` or `torchscript`; None: the manifest's.

    Raises:
        BundleError: the runtime is unknown or not installed, or its model is not in the bundle.
    """
    runtime, name = model_of(manifest, runtime, folder)
    return make_engine(runtime, Path(folder) / name, threads, read_verified(folder, manifest, name))


def make_engine(runtime: str, model: Path, threads: int, content: bytes) -> Engine:
    """Load a network from the content of its file.

    Raises:
        BundleError: the runtime is not installed, or the file is not a model it can run.
    """
    make = OnnxEngine if runtime == "onnxruntime" else TorchScriptEngine
    return make(model, threads, content)


def model_of(manifest: BundleManifest, runtime: str | None, folder: str | Path) -> tuple[str, str]:
    """The runtime to use, and its file in the bundle; see `load_engine`."""
    runtime = runtime or manifest.runtime
    if runtime not in RUNTIMES:
        raise BundleError(f"runtime {runtime!r} is unknown: use one of {', '.join(RUNTIMES)}")
    name = ONNX_MODEL if runtime == "onnxruntime" else MODEL
    if name not in manifest.files:
        raise BundleError(
            f"{folder}: has no {name}, so it cannot run on {runtime}; "
            f"use its own runtime, {manifest.runtime}"
        )
    return runtime, name


def _check_archive(content: bytes, model: Path) -> None:
    """Refuse a TorchScript file that is much larger after unpacking."""
    try:
        with ZipFile(BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (BadZipFile, OSError, ValueError, EOFError, RuntimeError) as error:
        raise BundleError(f"{model}: is not a TorchScript model; export it again") from error
    if unpacked > _UNPACKED_BYTES + 2 * len(content):
        raise BundleError(
            f"{model}: has {len(content)} bytes and would unpack to {unpacked}; export it again"
        )


def _require(package: str, extra: str) -> ModuleType:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise BundleError(
            f"this bundle needs {package}, which is not installed: pip install 'saarthi[{extra}]'"
        ) from error
