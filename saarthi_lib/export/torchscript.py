"""TorchScript export: `model.pt` of every bundle, in float32, float16 or int8."""

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
    """Script a student and write it. It takes any batch and length, and ignores padding.

    Args:
        student: student on the CPU.
        path: file to write.
        precision: `float32`, `float16` (half precision on disk; the engine widens it, because half
            precision is several times slower on a CPU) or `int8` (recurrent and linear layers,
            embedding).
    """
    served: nn.Module = ServedStudent(copy.deepcopy(student).eval())
    if precision == "int8":
        served = _quantized(served, table=student.embedding.weight.shape)
    elif precision == "float16":
        served = served.half()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit warns of its successor on every call
        _write(torch.jit.script(served), path)


def export_teacher(teacher: Teacher, path: Path, precision: str = "float32") -> None:
    """Trace a teacher and write it.

    A model of transformers cannot be scripted. The trace is valid for any batch and length, which
    the parity check verifies for each export.

    Args:
        teacher: teacher on the CPU.
        path: file to write.
        precision: `float32`, `float16` (see `export_student`) or `int8` (linear layers and
            embedding).
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
    """Write through memory: on a full disk torch's own writer aborts the process."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    path.write_bytes(buffer.getbuffer())


def _quantized(module: nn.Module, table: torch.Size) -> nn.Module:
    """Quantize weights to int8, and activations dynamically.

    Only the token embedding, with the shape `table`, is quantized. Other embeddings of a
    transformer are small, and the quantized kernel refuses their indices.
    """
    from torch.ao.quantization import (
        default_dynamic_qconfig,
        float_qparams_weight_only_qconfig,
        quantize_dynamic,
    )

    settings: dict[Any, Any] = dict.fromkeys((nn.LSTM, nn.GRU), default_dynamic_qconfig)
    for name, layer in module.named_modules():
        # An absent head is a layer without columns, which quantized kernels refuse.
        if isinstance(layer, nn.Linear) and layer.out_features:
            settings[name] = default_dynamic_qconfig
        if isinstance(layer, nn.Embedding) and layer.weight.shape == table:
            settings[name] = float_qparams_weight_only_qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantize_dynamic(module, settings)
