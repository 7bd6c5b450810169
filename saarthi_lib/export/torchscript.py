"""TorchScript: the model file that every bundle has, in float32, float16 or int8."""

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from saarthi_lib.models.student import ServedStudent, Student
from saarthi_lib.models.teacher import ServedTeacher, Teacher


def export_student(student: Student, path: Path, precision: str = "float32") -> None:
    """Script a student and write it: any batch, any length, padding-proof.

    Args:
        student: on the CPU.
        path: of the file.
        precision: `float32`, `float16` (weights halved on disk, computed in float32) or `int8`
            (LSTM, linear layers and embedding).
    """
    served: nn.Module = ServedStudent(copy.deepcopy(student).eval())
    if precision == "int8":
        served = _quantised(served, table=student.embedding.weight.shape)
    elif precision == "float16":
        served = _HalfStored(student).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit announces its successor at every call
        torch.jit.script(served).save(str(path))


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
        served = _quantised(served, table=teacher.embedding_table.shape)
    elif precision == "float16":
        served = _half_stored(served)
    ids = torch.ones(2, 5, dtype=torch.int64)
    lengths = torch.tensor([5, 3])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.jit.trace(served, (ids, lengths), check_trace=False).save(str(path))


def _quantised(module: nn.Module, table: torch.Size) -> nn.Module:
    """Weights in int8, activations quantised as they come.

    Of the embeddings only that of the pieces, with the shape `table`: a transformer's others are
    small and are read with indices that the quantised kernel refuses.
    """
    from torch.ao.quantization import (
        default_dynamic_qconfig,
        float_qparams_weight_only_qconfig,
        quantize_dynamic,
    )

    settings: dict[Any, Any] = {nn.LSTM: default_dynamic_qconfig}
    for name, layer in module.named_modules():
        # A head that the task lacks has no columns, which the quantised kernels refuse.
        if isinstance(layer, nn.Linear) and layer.out_features:
            settings[name] = default_dynamic_qconfig
        if isinstance(layer, nn.Embedding) and layer.weight.shape == table:
            settings[name] = float_qparams_weight_only_qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantize_dynamic(module, settings)


class _HalfStored(nn.Module):
    """A student whose weights lie in half precision and are computed with in float32.

    On a CPU arithmetic in half precision is several times slower than in float32; only the file
    and the memory get smaller.
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.layers: int = student.shape.layers
        self.hidden: int = student.shape.hidden
        weights = [weight.detach().half() for weight in student.encoder.parameters()]
        self.lstm = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in weights)
        self.embedding = nn.Parameter(student.embedding.weight.detach().half(), False)
        self.projection = _HalfLinear(student.projection)
        self.sequence_head = _HalfLinear(student.sequence_head)
        self.token_head = _HalfLinear(student.token_head)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        embedded = nn.functional.embedding(ids, self.embedding).float()
        packed = pack_padded_sequence(
            embedded, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        weights = [weight.float() for weight in self.lstm]
        zeros = torch.zeros(2 * self.layers, ids.size(0), self.hidden)
        out, _, _ = torch._VF.lstm(
            packed.data,
            packed.batch_sizes,
            [zeros, zeros],
            weights,
            True,
            self.layers,
            0.0,
            False,
            True,
        )
        states, _ = pad_packed_sequence(
            torch.nn.utils.rnn.PackedSequence(
                out, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
            ),
            batch_first=True,
            total_length=ids.size(1),
        )
        features = nn.functional.gelu(self.projection(states))
        padding = torch.arange(ids.size(1)).unsqueeze(0) >= lengths.unsqueeze(1)
        pooled = features.masked_fill(padding.unsqueeze(2), float("-inf")).amax(dim=1)
        return self.sequence_head(pooled), self.token_head(features)


def _half_stored(module: nn.Module) -> nn.Module:
    """Keep the weights in half precision and compute with them in float32."""
    for layer in list(module.half().modules()):
        for name, _ in list(layer.named_parameters(recurse=False)):
            # torch's check of a parametrisation forbids another type, which is the point here.
            register_parametrization(layer, name, _Widened(), unsafe=True)
    return module


class _Widened(nn.Module):
    def forward(self, stored: Tensor) -> Tensor:
        return stored.float()


class _HalfLinear(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().half(), False)
        self.bias = nn.Parameter(linear.bias.detach().half(), False)

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.linear(values, self.weight.float(), self.bias.float())
