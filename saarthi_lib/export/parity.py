"""The parity gate: an export that does not answer as its source does is refused."""

import math
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
# Half precision keeps 11 bits; float32 differs by the order of its sums.
TOLERANCE = {"float32": 1e-3, "float16": 2e-2}
BATCH = 32
SENTENCES = 256
# Answers that a language's validation rows may lose whatever their share: of twenty rows one is
# five points, which says nothing.
FEW_ANSWERS = 2


def largest_difference(source: nn.Module, engine: Engine, encoded: Encoded, seed: int = 0) -> float:
    """Compare logits on real sentences of every length: alone, and in batches of mixed lengths.

    Args:
        source: gives `(sequence logits, token logits)` for ids and lengths, on the CPU.
        engine: the exported model.
        encoded: sentences; one of each length is among those compared.
        seed: of the choice of the others.

    Returns:
        The largest absolute difference of any logit of a real piece or sentence.
    """
    draw = np.random.default_rng(seed)
    _, of_each_length = np.unique(encoded.lengths, return_index=True)
    chosen = np.union1d(of_each_length, draw.permutation(len(encoded))[:SENTENCES])
    mixed = draw.permutation(chosen)
    groups = [mixed[i : i + BATCH] for i in range(0, len(mixed), BATCH)]
    groups += [row[None] for row in of_each_length]
    # Not the built-in max, which passes over NaN.
    return float(np.max([_difference(source, engine, encoded, rows) for rows in groups]))


def check_parity(
    source: nn.Module, engine: Engine, encoded: Encoded, precision: str, file: Path
) -> float:
    """Refuse an unquantized export that differs from its source beyond the tolerance.

    Returns:
        The largest difference.

    Raises:
        ParityError: names the file, the difference and the tolerance.
    """
    difference = largest_difference(source, engine, encoded)
    if not difference <= TOLERANCE[precision]:
        raise ParityError(
            f"{file.name}: logits differ from the source model's by {difference:.2g}, more than "
            f"{TOLERANCE[precision]:.2g}; it is not published. Export again, or report this with "
            "the configuration"
        )
    return difference


def quality_changes(before: Scores, after: Scores) -> dict[str, dict[str, float]]:
    """The main metric on validation before and after quantization: `overall`, then by language.

    Args:
        before: of the source, as `saarthi_lib.evaluation.metrics.score_by_language` gives them.
        after: of the quantized model, likewise.
    """
    changes = {"overall": {"before": before["main"], "after": after["main"]}}
    for language, scores in before["by_language"].items():
        changes[language] = {
            "before": scores["main"],
            "after": after["by_language"][language]["main"],
            "examples": scores["examples"],
        }
    return changes


def check_quality(
    changes: Mapping[str, Mapping[str, float]], allowed: float, precision: str
) -> None:
    """Refuse a quantized model that lost more of the main metric than allowed, in any language.

    In a language the loss must also be of more than `FEW_ANSWERS`.

    Args:
        changes: of `quality_changes`.
        allowed: loss of the main metric, from 0 to 1.
        precision: of the quantized model.

    Raises:
        ParityError: has, of all languages that lost too much, both figures, and the limit.
    """
    lost = []
    for where, change in changes.items():
        loss = change["before"] - change["after"]
        if loss > max(allowed, FEW_ANSWERS / change.get("examples", math.inf)):
            lost.append(
                f"{100 * loss:.2f} points {'in all' if where == 'overall' else f'in {where}'} "
                f"({100 * change['before']:.2f} to {100 * change['after']:.2f})"
            )
    if lost:
        raise ParityError(
            f"{precision} costs, of the main metric on validation, {', '.join(lost)}: more than "
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
