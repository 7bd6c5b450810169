"""Teacher → signals: teacher outputs on all transfer text, computed once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError
from saarthi_lib.steps.data import prepared_data
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.storage import read_json, write_json

if TYPE_CHECKING:
    from saarthi_lib.models.teacher import Teacher, TeacherEnsemble

# For stage 1, beside the hidden states: the embedding table, the state of torch's random generator
# after loading the teacher, and the numbers of the teacher that the student needs.
EMBEDDING, GENERATOR, FACTS = "embedding.npy", "generator.npy", "teacher.json"


@reads("run", "teacher")
def teacher_signals(
    config: TrainConfig, data: Path, teacher: Path, out: Path, hidden: Path | None = None
) -> None:
    """Compute the teacher's outputs on the transfer set and on validation, once.

    Args:
        config: configuration.
        data: folder written by `preprocess`.
        teacher: folder written by `train_teacher`.
        out: folder to write, with the logits.
        hidden: folder to write, with the hidden states, if a stage learns them, and the other
            things that stage 1 takes from the teacher; None: `hidden` in `out`.
    """
    from saarthi_lib.data.encode import concatenate
    from saarthi_lib.distillation.signals import compute_signals
    from saarthi_lib.models.teacher import load_teacher
    from saarthi_lib.training.device import accelerator_device, half_for, set_up_process

    with _recorded(config, data, teacher, out, hidden) as (folder, states):
        set_up_process(config)
        prepared = prepared_data(data)
        network = load_teacher(teacher)
        layers = config.layers_to_distil
        if max(layers, default=0) > network.layers:
            raise ConfigError(
                f"teacher_layer_to_distil: {max(layers)} is beyond the teacher's "
                f"{network.layers} layers"
            )
        _write_start(network, teacher, states)
        splits = {
            "transfer": concatenate([prepared.encoded("train"), prepared.encoded("transfer")]),
            "validation": prepared.encoded("validation"),
        }
        device, half = accelerator_device(config), half_for(config)
        for split, encoded in splits.items():
            compute_signals(
                network, encoded, layers, folder, split, device=device, half=half, hidden=states
            )


@contextmanager
def _recorded(
    config: TrainConfig, data: Path, teacher: Path, out: Path, hidden: Path | None
) -> Iterator[tuple[Path, Path]]:
    """Folders for the logits and for the hidden states: two steps, or one step in another."""
    from saarthi_lib.distillation.signals import HIDDEN

    with recorded_step("teacher signals", config, out, data, teacher) as folder:
        if hidden is None:
            states = folder / HIDDEN
            states.mkdir()
            yield folder, states
        else:
            with recorded_step("hidden states", config, hidden) as states:
                yield folder, states


def _write_start(network: "Teacher | TeacherEnsemble", teacher: Path, folder: Path) -> None:
    """Write the embedding table, the generator's state, and the numbers of the teacher."""
    import numpy as np
    import torch

    np.save(folder / EMBEDDING, network.embedding_table.numpy())
    np.save(folder / GENERATOR, torch.get_rng_state().numpy())
    parameters = read_json(teacher / "teacher.json")["parameters_as_loaded"]
    facts = {"width": network.width, "parameters_as_loaded": parameters}
    write_json(folder / FACTS, facts)
