"""The pipeline: labelled text in, a bundle out. It only wires components."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.compute_teacher_signals.component import compute_teacher_signals
from components.distil_first_stage.component import distil_first_stage
from components.distil_stage.component import distil_stage
from components.evaluate_models.component import evaluate_models
from components.export_model.component import export_model
from components.preprocess_data.component import preprocess_data
from components.publish_bundle.component import publish_bundle
from components.quantise_model.component import quantise_model
from components.test_teacher.component import test_teacher
from components.train_teacher.component import train_teacher


class Results(NamedTuple):
    """What a run leaves: the same folders as the library's `train`."""

    data: dsl.Dataset
    teacher: dsl.Model
    signals: dsl.Dataset
    stage_1: dsl.Model
    stage_2: dsl.Model
    stage_3: dsl.Model
    stage_4: dsl.Model
    stage_5: dsl.Model
    evaluation: dsl.Artifact
    bundle: dsl.Model
    bundle_quantised: dsl.Model


@dsl.pipeline(
    name="saarthi-distillation",
    description="Fine-tune a teacher, distil it into a student in five stages, deliver a bundle.",
)
def distillation(
    run_config: dict,
    data_config: dict,
    teacher_config: dict,
    student_config: dict,
    delivery_config: dict,
    data_digest: str = "",
) -> Results:
    """Fine-tune a teacher, distil it in five stages, export, quantise, evaluate, publish.

    Args:
        run_config: Task, maximum length, seed, precision, device, fast_dev_run.
        data_config: Where the labelled text is, and how it is split and augmented.
        teacher_config: The teacher and how it is fine-tuned.
        student_config: The student's sizes and how it is trained.
        delivery_config: Runtime, quantisation, the bundle's name and version.
        data_digest: Digest of the input files, for the cache.
    """
    data = preprocess_data(
        run_config=run_config,
        data_config=data_config,
        teacher_config=teacher_config,
        data_digest=data_digest,
    ).outputs["data"]
    teacher = train_teacher(
        run_config=run_config, teacher_config=teacher_config, data=data
    ).outputs["teacher"]
    teacher_test = test_teacher(run_config=run_config, data=data, teacher=teacher)
    signals = compute_teacher_signals(
        run_config=run_config, teacher_config=teacher_config, data=data, teacher=teacher
    )
    # The teacher is tested before anything is distilled from it.
    signals.after(teacher_test)
    inputs = {"data": data, "teacher": teacher, "signals": signals.outputs["signals"]}
    student = {"run_config": run_config, "student_config": student_config}
    stages = [
        distil_first_stage(**student, **inputs).set_display_name("distil-stage-1").outputs["student"]
    ]
    for stage in range(2, 6):
        task = distil_stage(**student, **inputs, stage=stage, previous=stages[-1])
        stages.append(task.set_display_name(f"distil-stage-{stage}").outputs["student"])
    delivery = {"run_config": run_config, "delivery_config": delivery_config}
    model = {"kind": "student", "data": data, "source": stages[-1]}
    exported = export_model(**delivery, **model).outputs["exported"]
    quantised = quantise_model(**delivery, **model).outputs["quantised"]
    evaluation = evaluate_models(
        **student,
        teacher_config=teacher_config,
        delivery_config=delivery_config,
        data=data,
        teacher=teacher,
        teacher_test=teacher_test.outputs["teacher_test"],
        **{f"stage_{number}": stage for number, stage in enumerate(stages, 1)},
        exported=exported,
        quantised=quantised,
    ).outputs["evaluation"]
    bundle = publish_bundle(**delivery, exported=exported, evaluation=evaluation)
    bundle_quantised = publish_bundle(**delivery, exported=quantised, evaluation=evaluation)
    return Results(
        data,
        teacher,
        signals.outputs["signals"],
        *stages,
        evaluation,
        bundle.outputs["bundle"],
        bundle_quantised.set_display_name("publish-bundle-quantised").outputs["bundle"],
    )


PIPELINES: dict[str, BaseComponent] = {"distillation": distillation}
