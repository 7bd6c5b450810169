"""Sub-pipeline of all pipelines: distil a tested teacher into an evaluated student."""

from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.compute_teacher_signals.component import compute_teacher_signals
from components.distil_stage.component import distil_stage
from components.evaluate_models.component import evaluate_models
from components.export_model.component import export_model
from components.quantize_model.component import quantize_model
from pipelines.resources import Environment
from saarthi_lib.layout import STAGES


class Distilled(NamedTuple):
    """Artifacts of the sub-pipeline."""

    signals: dsl.Dataset
    stage_1: dsl.Model
    stage_2: dsl.Model
    stage_3: dsl.Model
    stage_4: dsl.Model
    stage_5: dsl.Model
    exported: dsl.Model
    quantized: dsl.Model
    evaluation: dsl.Artifact


def distillation_pipeline(environment: Environment) -> GraphComponent:
    """Build the distillation with the environment's resources, as part of other pipelines."""
    give = environment.give

    @dsl.pipeline(name="distillation")
    def distillation(
        run_config: dict,
        data_config: dict,
        teacher_config: dict,
        student_config: dict,
        delivery_config: dict,
        data: dsl.Input[dsl.Dataset],
        teacher: dsl.Input[dsl.Model],
        teacher_test: dsl.Input[dsl.Artifact],
    ) -> Distilled:
        """Distil a teacher in five stages, export, quantize, evaluate.

        Args:
            run_config: Task, maximum length, seed, precision, device, fast_dev_run.
            data_config: Data section of the configuration, written to bundle and report.
            teacher_config: Teacher layer to distil.
            student_config: Size and training of the student.
            delivery_config: Runtime, quantization, name and version of the bundle.
            data: Output of preprocess_data.
            teacher: Output of train_teacher.
            teacher_test: Output of test_teacher.
        """
        run: dict[str, Any] = {"run_config": run_config}
        signalling = compute_teacher_signals(
            **run, teacher_config=teacher_config, data=data, teacher=teacher
        )
        signals = give(signalling, "teacher").outputs["signals"]

        student = {**run, "student_config": student_config}
        stages: dict[str, Any] = {}
        previous: dict[str, Any] = {}
        for stage in STAGES:
            task = distil_stage(
                **student, stage=stage, data=data, teacher=teacher, signals=signals, **previous
            )
            task.set_display_name(f"distil-stage-{stage}")
            stages[f"stage_{stage}"] = give(task, "student").outputs["student"]
            previous = {"previous": stages[f"stage_{stage}"]}

        configs = {
            **student, "data_config": data_config, "teacher_config": teacher_config,
            "delivery_config": delivery_config,
        }  # fmt: skip
        model = {"kind": "student", "data": data, "source": stages["stage_5"]}
        exported = give(export_model(**configs, **model), "data").outputs["exported"]
        quantized = give(quantize_model(**configs, **model), "data").outputs["quantized"]
        models = {"teacher": teacher, **stages, "exported": exported, "quantized": quantized}
        evaluating = evaluate_models(**configs, data=data, teacher_test=teacher_test, **models)
        evaluation = give(evaluating, "data").outputs["evaluation"]
        return Distilled(
            signals=signals, **stages, exported=exported, quantized=quantized, evaluation=evaluation
        )

    return distillation
