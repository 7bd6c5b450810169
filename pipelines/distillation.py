"""Sub-pipeline of all pipelines: distil a tested teacher into an evaluated student."""

from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.distil_stage.component import distil_stage
from components.evaluate_models.component import evaluate_models
from components.export_model.component import export_model
from components.quantize_model.component import quantize_model
from pipelines.resources import Environment
from saarthi_lib.layout import STAGES


class Distilled(NamedTuple):
    """Artifacts of the sub-pipeline that later tasks read, and records of its tasks."""

    stage_5: dsl.Model
    exported: dsl.Model
    quantized: dsl.Model
    evaluation: dsl.Artifact
    record_of_stage_1: str
    record_of_stage_2: str
    record_of_stage_3: str
    record_of_stage_4: str
    record_of_stage_5: str
    record_of_exported: str
    record_of_quantized: str
    record_of_evaluation: str


RECORD_OF = "record_of_"
RECORDS = tuple(name for name in Distilled._fields if name.startswith(RECORD_OF))
# More inputs than data and student, by stage. The other stages learn only labels.
SIGNALS = {1: ("signals", "hidden"), 2: ("signals",), 3: ("signals",)}


def distillation_pipeline(environment: Environment) -> GraphComponent:
    """Build the distillation with the environment's resources, as part of other pipelines."""
    give = environment.give

    @dsl.pipeline(name="distillation", pipeline_config=environment.pipeline_config())
    def distillation(
        run_config: dict,
        data_config: dict,
        teacher_config: dict,
        student_config: dict,
        delivery_config: dict,
        data: dsl.Input[dsl.Dataset],
        teacher_test: dsl.Input[dsl.Artifact],
        signals: dsl.Input[dsl.Dataset],
        hidden: dsl.Input[dsl.Dataset],
    ) -> Distilled:
        """Distil a teacher in five stages, export, quantize, evaluate.

        Args:
            run_config: Task, maximum length, seed, precision, device, fast_dev_run.
            data_config: Data section of the configuration, written to bundle and report.
            teacher_config: Teacher and its fine-tuning, written to bundle and report.
            student_config: Size and training of the student.
            delivery_config: Runtime, quantization, name and version of the bundle.
            data: Output of preprocess_data.
            teacher_test: Output of run_teacher.
            signals: Output of run_teacher.
            hidden: Output of run_teacher.
        """
        student = {"run_config": run_config, "student_config": student_config}
        stages, records = _stages(environment, student, data, signals=signals, hidden=hidden)
        configs = {
            **student, "data_config": data_config, "teacher_config": teacher_config,
            "delivery_config": delivery_config,
        }  # fmt: skip
        model = {"kind": "student", "data": data, "source": stages["stage_5"]}
        exporting = give(export_model(**configs, **model), "data").outputs
        quantizing = give(quantize_model(**configs, **model), "data").outputs
        delivered = {"exported": exporting["exported"], "quantized": quantizing["quantized"]}
        evaluating = evaluate_models(
            **configs, data=data, teacher_test=teacher_test, **stages, **delivered
        )
        evaluated = give(evaluating, "data").outputs
        return Distilled(
            stage_5=stages["stage_5"],
            **delivered,
            evaluation=evaluated["evaluation"],
            **records,
            record_of_exported=exporting["Output"],
            record_of_quantized=quantizing["Output"],
            record_of_evaluation=evaluated["Output"],
        )

    return distillation


def _stages(
    environment: Environment, student: dict[str, Any], data: Any, **of_teacher: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add the five stages to the current pipeline; returns the students and the records."""
    stages: dict[str, Any] = {}
    records: dict[str, Any] = {}
    workspace = environment.workspace_folder()
    previous: dict[str, Any] = {}
    for stage in STAGES:
        inputs = {name: of_teacher[name] for name in SIGNALS.get(stage, ())}
        task = distil_stage(**student, stage=stage, data=data, **inputs, **previous, **workspace)
        task.set_display_name(f"distil-stage-{stage}")
        outputs = environment.give(task, "student").outputs
        previous = {"previous": outputs["student"]}
        stages[f"stage_{stage}"] = outputs["student"]
        records[f"{RECORD_OF}stage_{stage}"] = outputs["Output"]
    return stages, records
