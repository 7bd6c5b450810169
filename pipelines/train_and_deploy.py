"""Train and deploy: from labelled text to a served bundle, with quality gates."""

from typing import Any

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.check_canary.component import check_canary
from components.explain_predictions.component import explain_predictions
from components.promote_canary.component import promote_canary
from components.publish_bundle.component import publish_bundle
from components.record_run.component import record_run
from components.report_run.component import report_run
from components.start_canary.component import start_canary
from pipelines.distillation import Distilled, distillation_pipeline
from pipelines.gates import gate, passed
from pipelines.resources import Environment
from pipelines.teaching import teach

# The pipelines differ only in name, default task and description.
TASKS = {
    "nlu": ("intent_classification", "Intents, or classes of texts"),
    "ner": ("ner", "Named entities, or parts of speech"),
    "joint": ("joint", "Intents and entities together"),
}
PIPELINE_OF = {
    "intent_classification": "nlu",
    "text_classification": "nlu",
    "ner": "ner",
    "pos": "ner",
    "joint": "joint",
}
CANARY_SECONDS = 600
READY_SECONDS = 600


def train_and_deploy_pipeline(name: str, environment: Environment) -> GraphComponent:
    """Build the pipeline `nlu`, `ner` or `joint` with the environment's resources and gates."""
    task, what = TASKS[name]
    gates = environment.gates.model_dump()

    distillation = distillation_pipeline(environment)  # KFP cannot nest definitions

    @dsl.pipeline(
        name=f"saarthi-{name}",
        description=f"{what}: fine-tune a teacher, distil it, publish a bundle, roll it out.",
        pipeline_root=environment.object_store,
    )
    def train_and_deploy(
        data_config: dict,
        run_config: dict = {"task": task},  # noqa: B006
        teacher_config: dict = {},  # noqa: B006
        student_config: dict = {},  # noqa: B006
        delivery_config: dict = {},  # noqa: B006
        teacher_limits: dict = gates["teacher"],
        student_limits: dict = gates["student"],
        explain: bool = environment.explain,
        publish_to: str = "",
        predictor: str = "",
        namespace: str = "saarthi",
        canary_percent: int = 10,
        canary_seconds: int = CANARY_SECONDS,
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
            teacher_limits: Limits that the teacher must meet before distillation, such as
                {"main": {"at_least": 0.8}}.
            student_limits: Limits that the student must meet before it is published, such as
                {"retention": {"at_least": 0.95}}; for any metric in metrics.json.
            explain: Whether to explain answers of teacher and student, word by word.
            publish_to: Folder or gs:// URI for the bundle; empty: keep it only as an artifact.
            predictor: InferenceService to roll the bundle out to; empty: no rollout.
            namespace: Namespace of the predictor.
            canary_percent: Percentage of traffic for the canary.
            canary_seconds: Seconds to compare the canary with the stable version.
            canary_limits: Limits of the comparison: errors, abstentions, latency, requests.
            prometheus: URL of Prometheus for the comparison; empty: read the pods' metrics.
        """
        with reported(environment, f"saarthi-{name}"):
            train_and_publish(
                environment,
                distillation,
                configs={
                    "data_config": data_config,
                    "run_config": run_config,
                    "teacher_config": teacher_config,
                    "student_config": student_config,
                    "delivery_config": delivery_config,
                },
                limits={"teacher": teacher_limits, "student": student_limits},
                explain=explain,
                publishing={"publish_to": publish_to, "version": ""},
                roll_out={
                    "predictor": predictor,
                    "namespace": namespace,
                    "percent": canary_percent,
                    "watch_seconds": canary_seconds,
                    "limits": canary_limits,
                    "prometheus": prometheus,
                },
            )

    return train_and_deploy


def reported(environment: Environment, pipeline: str) -> dsl.ExitHandler:
    """Create a group of tasks; its end is reported even after a failure."""
    task = report_run(pipeline=pipeline, api=environment.api or "")
    return dsl.ExitHandler(environment.give(task, "control", cached=False), name="run")


def train_and_publish(
    environment: Environment,
    distillation: GraphComponent,
    configs: dict[str, Any],
    limits: dict[str, Any],
    explain: Any,
    publishing: dict[str, Any],
    roll_out: dict[str, Any],
) -> None:
    """Add all tasks, from labelled text to the promoted canary, to the current pipeline."""
    give = environment.give
    names = ("run_config", "data_config", "teacher_config")
    taught = teach(environment, **{name: configs[name] for name in names})
    with gate(environment, "teacher", limits["teacher"], taught.teacher_test):
        distilled = distillation(
            **configs,
            data=taught.data,
            teacher=taught.teacher,
            teacher_test=taught.teacher_test,
        ).outputs
        with dsl.If(explain == True, name="explain"):  # noqa: E712
            explaining = explain_predictions(
                run_config=configs["run_config"],
                delivery_config=configs["delivery_config"],
                data=taught.data,
                teacher=taught.teacher,
                student=distilled["stage_5"],
            )
            give(explaining, "data")
        with gate(environment, "student", limits["student"], distilled["evaluation"]):
            bundles: dict[str, Any] = {}
            for model, exported in (("final", "exported"), ("quantized", "quantized")):
                # Publish only the served bundle; keep the other one for comparison.
                place = publishing if model == "quantized" else {**publishing, "publish_to": ""}
                task = publish_bundle(
                    run_config=configs["run_config"],
                    delivery_config=configs["delivery_config"],
                    model=model,
                    data_digest=taught.data_digest,
                    **place,
                    exported=distilled[exported],
                    evaluation=distilled["evaluation"],
                )
                task.set_display_name(f"publish-{model}-bundle")
                bundles[model] = give(task, "control").outputs
            recording = record_run(
                **taught._asdict(),
                **{name: distilled[name] for name in Distilled._fields},
                bundle=bundles["final"]["bundle"],
                bundle_quantized=bundles["quantized"]["bundle"],
            )
            give(recording, "control", cached=False)
            with dsl.If(roll_out["predictor"] != "", name="roll-out"):
                _roll_out(environment, bundles["quantized"]["Output"], **roll_out)


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
    starting = give(start_canary(**where, **bundle, percent=percent), "control", cached=False)
    checking = check_canary(
        **where, watch_seconds=watch_seconds, limits=limits, prometheus=prometheus
    )
    verdict = give(checking, "control", cached=False).after(starting).output
    with passed(environment, verdict, "canary"):
        give(promote_canary(**where, **bundle), "control", cached=False)
