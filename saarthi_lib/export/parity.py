"""The parity gate: an export that does not answer as its source does is refused."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from saarthi_lib.data.encode import Encoded
from saarthi_lib.errors import ParityError
from saarthi_lib.inference.engine import Engine

# Half precision keeps 11 bits; float32 differs by the order of its sums.
TOLERANCE = {"float32": 1e-3, "float16": 2e-2}
BATCH = 32
SENTENCES = 256


def largest_difference(source: nn.Module, engine: Engine, encoded: Encoded, seed: int = 0) -> float:
    """Compare logits on real sentences, alone and in batches of mixed lengths.

    Args:
        source: gives `(sequence logits, token logits)` for ids and lengths, on the CPU.
        engine: the exported model.
        encoded: sentences; the shortest and the longest are among those compared.
        seed: of the choice of the others.

    Returns:
        The largest absolute difference of any logit of a real piece or sentence.
    """
    order = np.argsort(encoded.lengths, kind="stable")
    others = np.random.default_rng(seed).permutation(order)[:SENTENCES]
    chosen = np.unique(np.concatenate([order[:4], order[-4:], others]))
    mixed = np.random.default_rng(seed).permutation(chosen)
    groups = [mixed[i : i + BATCH] for i in range(0, len(mixed), BATCH)]
    groups += [row[None] for row in (*order[:4], *order[-4:])]
    # Not the built-in max, which passes over NaN.
    return float(np.max([_difference(source, engine, encoded, rows) for rows in groups]))


def check_parity(
    source: nn.Module, engine: Engine, encoded: Encoded, precision: str, file: Path
) -> float:
    """Refuse an unquantised export that differs from its source beyond the tolerance.

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


def check_quality(before: float, after: float, allowed: float, precision: str) -> None:
    """Refuse a quantised model that lost more of the main metric on validation than allowed.

    Raises:
        ParityError: has both figures and the limit.
    """
    if before - after > allowed:
        raise ParityError(
            f"{precision} costs {100 * (before - after):.2f} points of the main metric on "
            f"validation ({100 * before:.2f} to {100 * after:.2f}), more than "
            f"max_quantisation_loss ({100 * allowed:.2f}); raise the limit, or set "
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
