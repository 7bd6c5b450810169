"""The running mean of the weights: its values, and its state in a checkpoint."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ConstantLR

from saarthi_lib.training.batches import BatchStream
from saarthi_lib.training.callbacks import Best
from saarthi_lib.training.checkpoint import Checkpoint
from saarthi_lib.training.fit import fit
from saarthi_lib.training.losses import head_losses
from saarthi_lib.training.objective import FitResult, Objective
from tests.saarthi_lib.training.test_reweighting import configured, teacher, toy

TRAIN, DECAY = toy(64, seed=0), 0.9


def fitted(
    checkpoint: Checkpoint | None = None, steps: list[Tensor] | None = None, score: int = 0
) -> tuple[nn.Module, FitResult]:
    """Fit three epochs with a score that rises, so the last epoch is the best.

    Args:
        checkpoint: store of the state.
        steps: list that gets the weights of the head after each step.
        score: score of the first epoch.
    """
    network, scores = teacher("bert", (3, 0), dropout=0.1), itertools.count(score)
    weight = network.sequence_head.weight

    def optimizer(total: int) -> tuple[Optimizer, ConstantLR]:
        sgd = SGD(network.parameters(), lr=0.1)
        if steps is not None:
            sgd.register_step_post_hook(lambda *_: steps.append(weight.detach().clone()))
        return sgd, ConstantLR(sgd, 1.0, total)

    objective = Objective(
        part="toy",
        phase="fit",
        network=network,
        loss=lambda found, batch: head_losses(*found[:2], batch),
        optimizer=optimizer,
        score=lambda _: {"score": float(next(scores))},
        epochs=3,
        patience=3,
        ema_decay=DECAY,
    )
    result = fit(objective, BatchStream(TRAIN, 16, seed=1), configured(), (), checkpoint)
    return network, result


def test_kept_weights_are_the_running_mean() -> None:
    steps: list[Tensor] = []
    network, result = fitted(steps=steps)

    mean = steps[0]
    for weight in steps[1:]:
        mean = DECAY * mean + (1 - DECAY) * weight
    assert len(steps) == 12 and result.best_epoch == 3
    torch.testing.assert_close(network.state_dict()["sequence_head.weight"], mean)
    assert not torch.allclose(steps[-1], mean)


def test_interrupted_running_mean_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = fitted()
    kept = Checkpoint(tmp_path / "epochs", "key")
    judge = Best._judge

    def interrupted(self: Best, trainer: object, epoch: int, *rest: object) -> object:
        if epoch == 2:
            raise KeyboardInterrupt
        return judge(self, trainer, epoch, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Best, "_judge", interrupted)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            fitted(kept)
    resumed, result = fitted(kept, score=2)

    assert [row["epoch"] for row in result.history] == [0, 1, 2, 3]
    for name, value in expected.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
