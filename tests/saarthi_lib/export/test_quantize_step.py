"""The quality gate for quantized bundles: a refusal names its reason and keeps the metrics."""

from pathlib import Path
from typing import Any

import pytest
import torch

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.errors import ParityError
from saarthi_lib.models.student import Student, StudentShape, save_student
from saarthi_lib.storage import read_json
from saarthi_lib.training.batches import BatchStream


def overfitted(prepared: Prepared) -> Student:
    """A student that was fitted to the validation rows."""
    torch.manual_seed(0)
    vocabulary = len(prepared.vocabulary["kept_ids"])
    student = Student(StudentShape(vocabulary, 16, 16, 1, 16, len(prepared.labels.sequence), 0))
    [batch] = BatchStream(prepared.encoded("validation"), 1000)
    adam = torch.optim.Adam(student.parameters(), lr=0.02)
    for _ in range(60):
        adam.zero_grad()
        logits, _, _ = student(batch["ids"], batch["lengths"])
        torch.nn.functional.cross_entropy(logits, batch["sequence_labels"]).backward()
        adam.step()
    return student.eval()


def test_int8_quality_gate_refuses_and_keeps_metrics(fast: dict[str, Any], tmp_path: Path) -> None:
    settings = {**fast, "augmentation_size": 0, "max_seq_len": 40}
    config = TrainConfig.from_mapping({**settings, "fast_dev_run": False})  # which skips the gate
    data, source, out = (tmp_path / name for name in ("data", "student", "quantized"))
    refused = tmp_path / "quantized.refused.json"
    steps.preprocess(TrainConfig.from_mapping(settings), data)  # 64 rows a split
    student = overfitted(Prepared(data))
    source.mkdir()
    save_student(student, source)

    # An input that is always zero gets a huge weight: the answers stay the same in float32, but
    # the int8 scale of this weight rounds all others to zero.
    with torch.no_grad():
        student.embedding.weight[:, 0] = 0
        student.encoder.get_parameter("network.weight_ih_l0")[:, 0] = 1e6
        student.encoder.get_parameter("network.weight_ih_l0_reverse")[:, 0] = 1e6
    (ruined := tmp_path / "ruined").mkdir()
    save_student(student, ruined)

    with pytest.raises(ParityError, match=f"on torchscript, int8 costs.*in all.*{refused.name}"):
        steps.quantize(config, data, steps.TrainedNetwork("student", ruined), out)
    metrics = read_json(refused)
    assert not out.exists()
    for changes in metrics.values():
        assert {"overall", "english", "hindi"} == set(changes)
        assert changes["overall"]["before"] > 0.9 > 0.7 > changes["overall"]["after"]

    steps.quantize(config, data, steps.TrainedNetwork("student", source), out)
    assert not refused.exists()
    kept = read_json(out / "quantization.json")
    assert all(changes["overall"]["after"] == 1 for changes in kept.values())
    assert set(kept) == {"torchscript", "onnxruntime"}
