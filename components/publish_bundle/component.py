"""Write the bundle that is served, with the figures measured on the test split."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def publish_bundle(
    run_config: dict,
    delivery_config: dict,
    model: str,
    exported: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    bundle: dsl.Output[dsl.Model],
) -> None:
    """Write the bundle that is served, with the figures measured on the test split.

    Args:
        run_config: Task.
        delivery_config: The bundle's name and version.
        model: Whose figures they are, "final" or "quantized".
        exported: Of export_model or quantise_model.
        evaluation: Of evaluate_models.
        bundle: All that serving needs, with the digest of every file.
    """
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig

    with logs.task():
        config = TrainConfig.from_mapping({**run_config, **delivery_config})
        steps.publish(config, Path(exported.path), Path(evaluation.path), model, Path(bundle.path))
        bundle.metadata |= {"name": config.name, "version": config.bundle_version}
