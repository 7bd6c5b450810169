"""Pipelines `nlu`, `ner`, `joint` and `nightly`: from labelled text to a served bundle."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.check_canary.component import check_canary
from components.explain_predictions.component import explain_predictions
from components.find_new_data.component import find_new_data
from components.promote_canary.component import promote_canary
from components.publish_bundle.component import publish_bundle
from components.record_run.component import record_run
from components.report_run.component import report_run
from components.start_canary.component import start_canary
from pipelines.distillation import RECORD_OF, RECORDS, distillation_pipeline
from pipelines.gates import gate, passed
from pipelines.resources import Environment
from pipelines.teaching import Taught, teach

NIGHTLY = "nightly"  # runs only if the data have changed
_STEPS = "fine-tune a teacher, distil it, publish a bundle, roll it out."
# Default task and description of each pipeline.
TASKS = {
    "nlu": ("intent_classification", f"Intents, or classes of texts: {_STEPS}"),
    "ner": ("ner", f"Named entities, or parts of speech: {_STEPS}"),
    "joint": ("joint", f"Intents and entities together: {_STEPS}"),
    NIGHTLY: ("intent_classification", f"Any task, if the data have changed: {_STEPS}"),
}
PIPELINE_OF = {
    "intent_classification": "nlu",
    "text_classification": "nlu",
    "ner": "ner",
    "pos": "ner",
    "joint": "joint",
}
READY_SECONDS = 600
_REQUIRED: Any = inspect.Parameter.empty  # KFP requires a parameter without a default


class Configs(NamedTuple):
    """Parameters of the pipeline with the sections of the configuration."""

    run_config: Any
    data_config: Any
    teacher_config: Any
    student_config: Any
    delivery_config: Any


def train_and_deploy_pipeline(name: str, environment: Environment) -> GraphComponent:
    """Build one of these pipelines with the environment's resources and gates."""
    (task, what), gates = TASKS[name], environment.gates.model_dump()
    distillation = distillation_pipeline(environment)  # KFP cannot nest definitions

    @dsl.pipeline(name=f"saarthi-{name}", description=what, **environment.pipeline_options())
    def train_and_deploy(
        data_config: dict,
        run_config: dict = {"task": task},  # noqa: B006
        teacher_config: dict = {},  # noqa: B006
        student_config: dict = {},  # noqa: B006
        delivery_config: dict = {},  # noqa: B006
        teacher_limits: dict = gates["teacher"],
        student_limits: dict = gates["student"],
        explain: bool = environment.explain,
        publish_to: str = _REQUIRED if name == NIGHTLY else "",
        model_registry: str = "",
        predictor: str = "",
        namespace: str = "saarthi",
        canary_percent: int = 10,
        canary_seconds: int = 600,
        canary_limits: dict = gates["canary"],
        prometheus: str = "",
    ) -> None:
        """Fine-tune a teacher, distil it, publish a bundle, and roll it out as a canary.

        Args:
            data_config: Folder of the labelled text (input_path), splits and augmentation.
            run_config: Task, maximum length, seed, precision, device, fast_dev_run.
            teacher_config: Teacher and its fine-tuning.
            student_config: Size and training of the student.
            delivery_config: Runtime, quantization, name and version of the bundle.
            teacher_limits: Limits before distillation, such as {"main": {"at_least": 0.8}}.
            student_limits: Limits before publishing, such as {"retention": {"at_least": 0.95}}; the
                names are those in metrics.json.
            explain: Whether to explain answers of teacher and student, word by word.
            publish_to: Folder, s3:// or gs:// address for the bundle; empty: only an artifact.
            model_registry: URL of a Kubeflow Model Registry for the bundle; empty: none.
            predictor: InferenceService to roll the bundle out to; empty: no rollout.
            namespace: Namespace of the predictor.
            canary_percent: Percentage of traffic for the canary.
            canary_seconds: Seconds to compare the canary with the stable version.
            canary_limits: Limits of the comparison: errors, abstentions, latency, requests.
            prometheus: URL of Prometheus for the comparison; empty: read the pods' metrics.
        """
        configs = Configs(run_config, data_config, teacher_config, student_config, delivery_config)
        canary = (predictor, namespace, canary_percent, canary_seconds, canary_limits, prometheus)
        start = _if_new(environment, configs, publish_to) if name == NIGHTLY else nullcontext("")
        with reported(environment, f"saarthi-{name}"), start as version:
            taught = teach(environment, run_config, data_config, teacher_config)
            with gate(environment, "teacher", teacher_limits, taught.teacher_test):
                distilled = distillation(**configs._asdict(), **taught.artifacts).outputs
                _explain(environment, explain, configs, taught, distilled)
                with gate(environment, "student", student_limits, distilled["evaluation"]):
                    places = (publish_to, model_registry)
                    uri = _publish(environment, configs, taught, distilled, places, version)
                    _roll_out(environment, uri, *canary)

    return train_and_deploy


def reported(environment: Environment, pipeline: str) -> dsl.ExitHandler:
    """Create a group of tasks; its end is reported even after a failure."""
    task = report_run(pipeline=pipeline, api=environment.api or "")
    return dsl.ExitHandler(environment.give(task, "control", cached=False), name="run")


@contextmanager
def _if_new(environment: Environment, configs: Configs, publish_to: Any) -> Iterator[Any]:
    """Run the tasks of the block if the data have changed; yields the version of their bundle."""
    finding = find_new_data(
        run_config=configs.run_config,
        data_config=configs.data_config,
        delivery_config=configs.delivery_config,
        publish_to=publish_to,
    )
    version = environment.give(finding, "control", cached=False).output
    with dsl.If(version != "", name="new-data"):
        yield version


def _explain(
    environment: Environment, wanted: Any, configs: Configs, taught: Taught, distilled: Any
) -> None:
    with dsl.If(wanted == True, name="explain"):  # noqa: E712
        explaining = explain_predictions(
            run_config=configs.run_config,
            delivery_config=configs.delivery_config,
            data=taught.data,
            teacher=taught.teacher,
            student=distilled["stage_5"],
        )
        environment.give(explaining, "data")


def _publish(
    environment: Environment,
    configs: Configs,
    taught: Taught,
    distilled: Any,
    places: tuple[Any, Any],
    version: Any,
) -> Any:
    """Write both bundles and record the run; returns the URI of the published bundle."""
    bundles: dict[str, Any] = {}
    # Only the quantized bundle is served, so only it is published.
    for model, source, (place, registry) in (
        ("final", "exported", ("", "")),
        ("quantized", "quantized", places),
    ):
        task = publish_bundle(
            run_config=configs.run_config,
            delivery_config=configs.delivery_config,
            model=model,
            version=version,
            data_digest=taught.data_digest,
            publish_to=place,
            model_registry=registry,
            exported=distilled[source],
            evaluation=distilled["evaluation"],
        )
        task.set_display_name(f"publish-{model}-bundle")
        bundles[model] = environment.give(task, "control").outputs
    recording = record_run(
        data_digest=taught.data_digest,
        **taught.records,
        **{name.removeprefix(RECORD_OF): distilled[name] for name in RECORDS},
        bundle=bundles["final"]["record"],
        bundle_quantized=bundles["quantized"]["record"],
    )
    environment.give(recording, "control", cached=False)
    return bundles["quantized"]["uri"]


def _roll_out(
    environment: Environment,
    bundle_uri: Any,
    predictor: Any,
    namespace: Any,
    percent: Any,
    watch_seconds: Any,
    limits: Any,
    prometheus: Any,
) -> None:
    give = environment.give
    where = {"predictor": predictor, "namespace": namespace}
    bundle = {"bundle_uri": bundle_uri, "ready_seconds": READY_SECONDS}
    with dsl.If(predictor != "", name="roll-out"):
        starting = give(start_canary(**where, **bundle, percent=percent), "control", cached=False)
        checking = check_canary(
            **where, watch_seconds=watch_seconds, limits=limits, prometheus=prometheus
        )
        verdict = give(checking, "control", cached=False).after(starting).output
        with passed(environment, verdict, "canary"):
            give(promote_canary(**where, **bundle), "control", cached=False)
