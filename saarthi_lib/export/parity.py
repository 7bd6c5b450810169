"""Gates for exports: parity of logits with the source, and quality after quantization."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from saarthi_lib.data.encode import Encoded
from saarthi_lib.errors import ParityError
from saarthi_lib.inference.engine import Engine

Scores = Mapping[str, Any]
# Half precision has 11 bits; float32 results differ by the order of summation.
TOLERANCE = {"float32": 1e-3, "float16": 2e-2}
BATCH = 32
SENTENCES = 256
# A model may always lose this many answers: with twenty validation rows, one is five points.
FEW_ANSWERS = 2
ROUNDING = 1e-9


def largest_difference(source: nn.Module, engine: Engine, encoded: Encoded, seed: int = 0) -> float:
    """Compare logits on real sentences of every length: alone, and in batches of mixed lengths.

    Args:
        source: network on the CPU that returns `(sequence logits, token logits)`.
        engine: engine of the exported model.
        encoded: sentences; one of each length is always compared.
        seed: seed for the choice of other sentences.

    Returns:
        The largest absolute difference of any logit, without padding.
    """
    draw = np.random.default_rng(seed)
    _, of_each_length = np.unique(encoded.lengths, return_index=True)
    chosen = np.union1d(of_each_length, draw.permutation(len(encoded))[:SENTENCES])
    mixed = draw.permutation(chosen)
    groups = [mixed[i : i + BATCH] for i in range(0, len(mixed), BATCH)]
    groups += [row[None] for row in of_each_length]
    # numpy's max, because the built-in one skips NaN.
    return float(np.max([_difference(source, engine, encoded, rows) for rows in groups]))


def check_parity(
    source: nn.Module, engine: Engine, encoded: Encoded, precision: str, file: Path
) -> float:
    """Check that an unquantized export differs from its source within the tolerance.

    Returns:
        The largest difference.

    Raises:
        ParityError: it differs more; the message has the file, the difference and the tolerance.
    """
    difference = largest_difference(source, engine, encoded)
    if not difference <= TOLERANCE[precision]:
        raise ParityError(
            f"{file.name}: logits differ from the source model's by {difference:.2g}, more than "
            f"{TOLERANCE[precision]:.2g}; the model is not published. Export again, or report this "
            "with the configuration"
        )
    return difference


def quality_changes(before: Scores, after: Scores) -> dict[str, dict[str, float]]:
    """Main metric on validation before and after quantization: `overall`, then by language.

    Args:
        before: metrics of the source from `saarthi_lib.evaluation.metrics.score_by_language`.
        after: metrics of the quantized model.
    """
    parts = {"overall": (before, after)}
    parts |= {
        name: (each, after["by_language"][name]) for name, each in before["by_language"].items()
    }
    return {
        name: {"before": old["main"], "after": new["main"], "examples": old["examples"]}
        for name, (old, new) in parts.items()
    }


def check_quality(
    changes: Mapping[str, Mapping[str, float]], allowed: float, precision: str
) -> None:
    """Check that quantization loses no more of the main metric than allowed, in each language.

    A loss must also exceed `FEW_ANSWERS` answers.

    Args:
        changes: result of `quality_changes`.
        allowed: allowed loss of the main metric, from 0 to 1.
        precision: precision of the quantized model.

    Raises:
        ParityError: the loss is larger; the message has the metrics of each such language.
    """
    lost = []
    for where, change in changes.items():
        loss = change["before"] - change["after"]
        if loss > max(allowed, FEW_ANSWERS / max(1, change["examples"])) + ROUNDING:
            lost.append(
                f"{100 * loss:.2f} points {'in all' if where == 'overall' else f'in {where}'} "
                f"({100 * change['before']:.2f} to {100 * change['after']:.2f})"
            )
    if lost:
        raise ParityError(
            f"{precision} costs {', '.join(lost)} of the main metric on validation, more than "
            f"max_quantization_loss ({100 * allowed:.2f}); raise the limit, or set "
            "quantization to float16 or null"
        )


def _difference(source: nn.Module, engine: Engine, encoded: Encoded, rows: np.ndarray) -> float:
    ids = encoded.padded(encoded.ids, rows, 0).astype(np.int64)
    lengths = encoded.lengths[rows]
    with torch.inference_mode():
        sequence, token = source(torch.from_numpy(ids), torch.from_numpy(lengths))
    got_sequence, got_token = engine.run(ids, lengths)
    real = np.arange(ids.shape[1]) < lengths[:, None]
    differences = []
    if got_sequence is not None:
        differences.append(np.abs(got_sequence - sequence.numpy()).max())
    if got_token is not None:
        differences.append(np.abs(got_token - token.numpy())[real].max())
    return float(np.max(differences))
