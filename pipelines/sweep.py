"""Sweep: train one teacher, distil a student for each configuration, compare the students."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.compare_runs.component import compare_runs
from pipelines.distillation import distillation_pipeline
from pipelines.gates import gate
from pipelines.resources import Environment
from pipelines.teaching import teach
from pipelines.train_and_deploy import reported


def sweep_pipeline(environment: Environment) -> GraphComponent:
    """Build the sweep with the environment's resources."""
    gates = environment.gates.model_dump()
    distillation = distillation_pipeline(environment)  # KFP cannot nest definitions

    @dsl.pipeline(
        name="saarthi-sweep",
        description="Fine-tune a teacher once, distil it for each configuration, compare.",
        **environment.pipeline_options(),
    )
    def sweep(
        data_config: dict,
        student_configs: list,
        run_config: dict = {},  # noqa: B006
        teacher_config: dict = {},  # noqa: B006
        delivery_config: dict = {},  # noqa: B006
        teacher_limits: dict = gates["teacher"],
    ) -> None:
        """Fine-tune a teacher once, distil it for each configuration, and compare the students.

        Args:
            data_config: Folder of the labelled text (input_path), splits and augmentation.
            student_configs: Size and training of each student, one mapping per student.
            run_config: Task, maximum length, seed, precision, device, fast_dev_run.
            teacher_config: Teacher and its fine-tuning.
            delivery_config: Runtime and quantization.
            teacher_limits: Limits that the teacher must meet before distillation.
        """
        with reported(environment, "saarthi-sweep"):
            taught = teach(environment, run_config, data_config, teacher_config)
            with gate(environment, "teacher", teacher_limits, taught.teacher_test):
                with dsl.ParallelFor(
                    student_configs, name="students", parallelism=environment.parallelism
                ) as student_config:
                    distilled = distillation(
                        run_config=run_config,
                        data_config=data_config,
                        teacher_config=teacher_config,
                        student_config=student_config,
                        delivery_config=delivery_config,
                        **taught.artifacts,
                    )
                comparing = compare_runs(
                    configurations=student_configs,
                    evaluations=dsl.Collected(distilled.outputs["evaluation"]),
                )
                environment.give(comparing, "control", cached=False)

    return sweep
