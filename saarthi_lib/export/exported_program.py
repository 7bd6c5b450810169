"""ExportedProgram, torch's successor of TorchScript, for the students whose graph it can hold.

Those are the transformer and the quasi-recurrent one. Of the LSTM and the GRU torch.export keeps
one length only ("specialized it to be a constant"), and of packed sequences nothing at all.
"""

import copy
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.export import Dim

from saarthi_lib.inference.engine import Ids, Logits
from saarthi_lib.models.encoders import QuasiRecurrentLayer
from saarthi_lib.models.student import ServedStudent, Student

FAMILIES = ("qrnn", "transformer")
POSITIONS = 512  # beyond the longest text that a configuration allows


def export_student(student: Student, path: Path) -> None:
    """Export a student in float32 and write it, for any batch and up to `POSITIONS` pieces.

    Args:
        student: on the CPU, of one of `FAMILIES`.
        path: of the file, `model.pt2`; `torch.export.load` reads it.
    """
    served = ServedStudent(copy.deepcopy(student).eval())
    for module in served.modules():
        if isinstance(module, QuasiRecurrentLayer):
            module.unrolled = POSITIONS  # the scan's steps must not hang on the length
    batch, time = Dim("batch", min=1, max=2**16), Dim("time", min=1, max=POSITIONS)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                served,
                (torch.ones(3, 7, dtype=torch.int64), torch.tensor([7, 3, 5])),
                dynamic_shapes={"ids": {0: batch, 1: time}, "lengths": {0: batch}},
            )
            torch.export.save(program, path)
    finally:
        logging.disable(level)


class ProgramEngine:
    """Runs a `model.pt2` as torch reads it, for the parity check; compiled, it is for AOTInductor.

    As it is, each operation is called from Python: it is slower than the other engines.
    """

    def __init__(self, model: Path) -> None:
        self._model = torch.export.load(model).module()

    def run(self, ids: Ids, lengths: Ids) -> tuple[Logits | None, Logits | None]:
        """As `saarthi_lib.inference.engine.Engine.run`."""
        with torch.inference_mode():
            heads = self._model(torch.from_numpy(np.array(ids)), torch.from_numpy(lengths))
        sequence, token = (head.numpy() if head.shape[-1] else None for head in heads)
        return sequence, token
