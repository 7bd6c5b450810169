"""The pipeline: labelled text in, a bundle out. It only wires components."""

from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

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
from pipelines.resources import give


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


def distillation_pipeline(env: str = "local") -> GraphComponent:
    """The distillation pipeline, with the resources of an environment (`ENVIRONMENTS`)."""

    @dsl.pipeline(
        name="saarthi-distillation",
        description="Fine-tune a teacher, distil it in five stages, deliver a bundle.",
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
        fitting = {"run_config": run_config, "teacher_config": teacher_config}
        student = {"run_config": run_config, "student_config": student_config}
        delivery = {"run_config": run_config, "delivery_config": delivery_config}

        preprocessing = preprocess_data(**fitting, data_config=data_config, data_digest=data_digest)
        data = give(preprocessing, "light", env).outputs["data"]
        fine_tuning = give(train_teacher(**fitting, data=data), "training", env)
        teacher = fine_tuning.outputs["teacher"]
        teacher_test = give(
            test_teacher(run_config=run_config, data=data, teacher=teacher), "light", env
        )
        signalling = give(
            compute_teacher_signals(**fitting, data=data, teacher=teacher), "training", env
        )
        # The teacher is tested before anything is distilled from it.
        signalling.after(teacher_test)
        signals = signalling.outputs["signals"]

        inputs = {"data": data, "teacher": teacher, "signals": signals}
        stages: list[Any] = []
        for stage in range(1, 6):
            if stage == 1:
                task = distil_first_stage(**student, **inputs)
            else:
                task = distil_stage(**student, **inputs, stage=stage, previous=stages[-1])
            task.set_display_name(f"distil-stage-{stage}")
            stages.append(give(task, "training", env).outputs["student"])

        model = {"kind": "student", "data": data, "source": stages[-1]}
        exported = give(export_model(**delivery, **model), "light", env).outputs["exported"]
        quantising = give(quantise_model(**delivery, **model), "light", env)
        quantised = quantising.outputs["quantised"]
        evaluating = evaluate_models(
            **fitting,
            student_config=student_config,
            delivery_config=delivery_config,
            data=data,
            teacher=teacher,
            teacher_test=teacher_test.outputs["teacher_test"],
            **{f"stage_{number}": stage for number, stage in enumerate(stages, 1)},
            exported=exported,
            quantised=quantised,
        )
        evaluation = give(evaluating, "light", env).outputs["evaluation"]
        bundles: list[Any] = []
        for bundle, exported_model in (("final", exported), ("quantized", quantised)):
            task = publish_bundle(
                **delivery, model=bundle, exported=exported_model, evaluation=evaluation
            )
            task.set_display_name(f"publish-{bundle}-bundle")
            bundles.append(give(task, "light", env).outputs["bundle"])
        return Results(*[data, teacher, signals, *stages, evaluation, *bundles])

    return distillation
