"""TorchScript: the model file that every bundle has, in float32, float16 or int8."""

import copy
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saarthi_lib.models.student import ServedStudent, Student
from saarthi_lib.models.teacher import ServedTeacher, Teacher


def export_student(student: Student, path: Path, precision: str = "float32") -> None:
    """Script a student and write it: any batch, any length, padding-proof.

    Args:
        student: on the CPU.
        path: of the file.
        precision: `float32`, `float16` (half on disk; on a CPU the engine widens it, for there
            arithmetic in half precision is several times slower) or `int8` (recurrent and linear
            layers, embedding).
    """
    served: nn.Module = ServedStudent(copy.deepcopy(student).eval())
    if precision == "int8":
        served = _quantized(served, table=student.embedding.weight.shape)
    elif precision == "float16":
        served = served.half()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit announces its successor at every call
        _write(torch.jit.script(served), path)


def export_teacher(teacher: Teacher, path: Path, precision: str = "float32") -> None:
    """Trace a teacher and write it.

    A transformer of the library cannot be scripted. The trace holds for any batch and length,
    which the parity check proves for each export.

    Args:
        teacher: on the CPU.
        path: of the file.
        precision: `float32`, `float16` (as of a student) or `int8` (linear layers and embedding).
    """
    served: nn.Module = ServedTeacher(copy.deepcopy(teacher).eval())
    if precision == "int8":
        served = _quantized(served, table=teacher.embedding_table.shape)
    ids = torch.ones(2, 5, dtype=torch.int64)
    lengths = torch.tensor([5, 3])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(served, (ids, lengths), check_trace=False)
        if precision == "float16":
            traced = traced.half()
        _write(traced, path)


def _write(module: torch.jit.ScriptModule, path: Path) -> None:
    """By way of memory: where the disk is full, torch's own writer ends the process (abort)."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    path.write_bytes(buffer.getbuffer())


def _quantized(module: nn.Module, table: torch.Size) -> nn.Module:
    """Weights in int8, activations quantized as they come.

    Of the embeddings only that of the pieces, with the shape `table`: a transformer's others are
    small and are read with indices that the quantized kernel refuses.
    """
    from torch.ao.quantization import (
        default_dynamic_qconfig,
        float_qparams_weight_only_qconfig,
        quantize_dynamic,
    )

    settings: dict[Any, Any] = dict.fromkeys((nn.LSTM, nn.GRU), default_dynamic_qconfig)
    for name, layer in module.named_modules():
        # A head that the task lacks has no columns, which the quantized kernels refuse.
        if isinstance(layer, nn.Linear) and layer.out_features:
            settings[name] = default_dynamic_qconfig
        if isinstance(layer, nn.Embedding) and layer.weight.shape == table:
            settings[name] = float_qparams_weight_only_qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantize_dynamic(module, settings)
