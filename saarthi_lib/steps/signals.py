"""Teacher → signals: teacher outputs on all transfer text, computed once."""

from pathlib import Path

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError
from saarthi_lib.steps.data import prepared_data
from saarthi_lib.steps.record import reads, recorded_step


@reads("run", "teacher")
def teacher_signals(config: TrainConfig, data: Path, teacher: Path, out: Path) -> None:
    """Compute the teacher's outputs on the transfer set and on validation, once."""
    from saarthi_lib.data.encode import concatenate
    from saarthi_lib.distillation.signals import compute_signals
    from saarthi_lib.models.teacher import load_teacher
    from saarthi_lib.training.device import accelerator_device, half_for, set_up_process

    with recorded_step("teacher signals", config, out, data, teacher) as folder:
        set_up_process(config)
        prepared = prepared_data(data)
        network = load_teacher(teacher)
        layers = config.layers_to_distil
        if max(layers) > network.layers:
            raise ConfigError(
                f"teacher_layer_to_distil: {max(layers)} is beyond the teacher's "
                f"{network.layers} layers"
            )
        splits = {
            "transfer": concatenate([prepared.encoded("train"), prepared.encoded("transfer")]),
            "validation": prepared.encoded("validation"),
        }
        device, half = accelerator_device(config), half_for(config)
        for split, encoded in splits.items():
            compute_signals(network, encoded, layers, folder, split, device=device, half=half)
