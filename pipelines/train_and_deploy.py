"""Train and deploy: labelled text in, a served bundle out, with a gate before each costly step."""

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

# The pipelines are the same but for their names and what they are set to by default.
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
    """The pipeline `nlu`, `ner` or `joint`, with the resources and gates of an environment."""
    task, what = TASKS[name]
    gates = environment.gates.model_dump()

    distillation = distillation_pipeline(environment)  # KFP makes none within another one

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
            data_config: Where the labelled text is (input_path), and how it is split and augmented.
            run_config: Task, maximum length, seed, precision, device, fast_dev_run.
            teacher_config: The teacher and how it is fine-tuned.
            student_config: The student's sizes and how it is trained.
            delivery_config: Runtime, quantisation, the bundle's name and version.
            teacher_limits: What the teacher must hold before it is distilled, such as
                {"main": {"at_least": 0.8}}.
            student_limits: What the student must hold before it is published, such as
                {"retention": {"at_least": 0.95}}; any figure of metrics.json.
            explain: Explain answers of teacher and student, word by word.
            publish_to: Folder or gs:// URI for the bundle; empty: it stays an artifact.
            predictor: The InferenceService to roll it out to; empty: none.
            namespace: Of the predictor.
            canary_percent: The canary's part of the traffic.
            canary_seconds: How long it is compared with the stable one.
            canary_limits: How much worse it may be: errors, abstentions, latency, requests.
            prometheus: Its URL, for the comparison; empty: the pods' own metrics.
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
    """A group of tasks whose end is reported, however it comes."""
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
    """Add the tasks from the labelled text to the promoted canary to the pipeline being made."""
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
            for model, exported in (("final", "exported"), ("quantized", "quantised")):
                # What is served is published; the other one stays for those who compare.
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
                bundle_quantised=bundles["quantized"]["bundle"],
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
