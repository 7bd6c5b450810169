"""Build the parameters of a pipeline run from a configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp.dsl.graph_component import GraphComponent

from pipelines.train_and_deploy import PIPELINE_OF
from saarthi_lib.addresses import BUCKETS, checked_address
from saarthi_lib.config import SECTIONS, TrainConfig
from saarthi_lib.distillation.schedule import with_layers
from saarthi_lib.errors import HIDDEN, ConfigError
from saarthi_lib.layout import current_names
from saarthi_lib.settings import overridden


def pipeline_for(config: TrainConfig) -> str:
    """Return the name of the pipeline for the configured task."""
    return PIPELINE_OF[config.task]


def run_parameters(
    pipeline: GraphComponent, config: TrainConfig, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Merge the configuration's sections with further parameters.

    Args:
        pipeline: pipeline to run.
        config: whole configuration; it must suit the pipeline.
        given: further parameters, which override the sections. Each entry of a sweep's
            `student_configs` holds only its changes to the configuration.

    Raises:
        ConfigError: the pipeline does not support the configuration, a parameter is unknown, a
            parameter without default is missing, a trial would be published, nothing is published
            for a rollout, or an address is unknown or has a secret, which the platform would
            record.
    """
    _check_support(config)
    config = with_layers(config)
    if HIDDEN in config.input_path:
        raise ConfigError(
            f"input_path: {config.input_path}: a pipeline would record the secret of this address; "
            "put the data into a bucket, and the credentials into a secret of the environment"
        )
    known = pipeline.component_spec.inputs
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"parameter '{unknown[0]}' is unknown; use one of {', '.join(known)}")
    sections = {f"{name}_config": _given(config, name) for name in SECTIONS}
    sections["run_config"]["task"] = config.task
    # The output folder does not affect the tasks.
    sections["delivery_config"].pop("root_output_path", None)
    if Path(config.input_path).exists():
        sections["data_config"]["input_path"] = str(Path(config.input_path).absolute())
    if config.start_from:
        sections["data_config"]["start_from"] = str(Path(config.start_from).absolute())
    parameters = {**{name: each for name, each in sections.items() if name in known}, **given}
    if "student_configs" in parameters:
        changes = parameters["student_configs"]
        parameters["student_configs"] = _student_configs(sections["student_config"], changes)
    for name, parameter in known.items():
        if not parameter.optional and parameters.get(name) in (None, ""):
            raise ConfigError(f"parameter '{name}' is missing: {parameter.description}")
    if parameters.get("publish_to"):
        parameters["publish_to"] = checked_address(
            str(parameters["publish_to"]), "parameter 'publish_to'", BUCKETS
        )
    for name in ("publish_to", "predictor"):
        if parameters.get(name) and parameters["run_config"].get("fast_dev_run"):
            raise ConfigError(
                f"parameter '{name}': the bundle of a trial run is neither published nor rolled "
                "out; set fast_dev_run: false, or leave the parameter out"
            )
    for name, use in (("model_registry", "registered"), ("predictor", "rolled out")):
        if parameters.get(name) and not parameters.get("publish_to"):
            raise ConfigError(f"parameter '{name}': needs 'publish_to', whose bundle is {use}")
    return parameters


def _student_configs(shared: Mapping[str, Any], changes: Any) -> list[dict[str, Any]]:
    """Student sections of a sweep: the configuration's, with the changes of each student."""
    if not isinstance(changes, list) or not all(isinstance(each, Mapping) for each in changes):
        raise ConfigError("student_configs: give a list of mappings, one for each student")
    changes = [current_names(each, "student_configs") for each in changes]
    foreign = TrainConfig.model_fields.keys() - SECTIONS["student"].model_fields.keys()
    if wrong := sorted(foreign & {field for each in changes for field in each}):
        raise ConfigError(
            f"student_configs: '{wrong[0]}' is not a field of the section student; all students "
            "of a sweep share their data and teacher"
        )
    students = [overridden(shared, change) for change in changes]
    return [
        _given(TrainConfig.from_mapping(student, "student_configs"), "student")
        for student in students
    ]


def _given(config: TrainConfig, section: str) -> dict[str, Any]:
    """Fields that the user gave; the tasks resolve the others by the recipe.

    KFP parameters cannot be null, so null fields are left out: null is their default.
    """
    return {name: value for name, value in config.given(section).items() if value is not None}


def _check_support(config: TrainConfig) -> None:
    if not (config.distillation and config.quantization):
        raise ConfigError(
            "the pipeline distils and quantizes; with distillation: false or without quantization "
            "use 'saarthi train'"
        )
    if config.teacher_exists or config.torchscript:
        raise ConfigError(
            "the pipeline trains its teacher and delivers only the student; with teacher_exists "
            "or torchscript use 'saarthi train'"
        )
