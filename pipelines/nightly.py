"""The nightly retraining: the whole way again, unless the data are those of the last bundle."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.find_new_data.component import find_new_data
from pipelines.distillation import distillation_pipeline
from pipelines.resources import Environment
from pipelines.train_and_deploy import CANARY_SECONDS, reported, train_and_publish


def nightly_pipeline(environment: Environment) -> GraphComponent:
    """The nightly retraining, with the resources and gates of an environment."""
    gates = environment.gates.model_dump()

    distillation = distillation_pipeline(environment)  # KFP makes none within another one

    @dsl.pipeline(
        name="saarthi-nightly",
        description="Retrain, publish and roll out when the data have changed.",
        pipeline_root=environment.object_store,
    )
    def nightly(
        data_config: dict,
        publish_to: str,
        run_config: dict = {},  # noqa: B006
        teacher_config: dict = {},  # noqa: B006
        student_config: dict = {},  # noqa: B006
        delivery_config: dict = {},  # noqa: B006
        teacher_limits: dict = gates["teacher"],
        student_limits: dict = gates["student"],
        explain: bool = environment.explain,
        predictor: str = "",
        namespace: str = "saarthi",
        canary_percent: int = 10,
        canary_seconds: int = CANARY_SECONDS,
        canary_limits: dict = gates["canary"],
        prometheus: str = "",
    ) -> None:
        """Retrain, publish and roll out when the data are not those of the last published bundle.

        The new bundle's version is the time in UTC.

        Args:
            data_config: Where the labelled text is (input_path), and how it is split and augmented.
            publish_to: Folder or gs:// URI with the published bundles.
            run_config: Task, maximum length, seed, precision, device, fast_dev_run.
            teacher_config: The teacher and how it is fine-tuned.
            student_config: The student's sizes and how it is trained.
            delivery_config: Runtime, quantization and the bundle's name.
            teacher_limits: What the teacher must hold before it is distilled.
            student_limits: What the student must hold before it is published.
            explain: Explain answers of teacher and student, word by word.
            predictor: The InferenceService to roll it out to; empty: none.
            namespace: Of the predictor.
            canary_percent: The canary's part of the traffic.
            canary_seconds: How long it is compared with the stable one.
            canary_limits: How much worse it may be: errors, abstentions, latency, requests.
            prometheus: Its URL, for the comparison; empty: the pods' own metrics.
        """
        with reported(environment, "saarthi-nightly"):
            looking = find_new_data(
                run_config=run_config,
                data_config=data_config,
                delivery_config=delivery_config,
                publish_to=publish_to,
            )
            version = environment.give(looking, "control", cached=False).output
            with dsl.If(version != "", name="new-data"):
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
                    publishing={"publish_to": publish_to, "version": version},
                    roll_out={
                        "predictor": predictor,
                        "namespace": namespace,
                        "percent": canary_percent,
                        "watch_seconds": canary_seconds,
                        "limits": canary_limits,
                        "prometheus": prometheus,
                    },
                )

    return nightly
