"""Write down what a run used and made."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def record_run(
    data_digest: str,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    teacher_test: dsl.Input[dsl.Artifact],
    signals: dsl.Input[dsl.Dataset],
    stage_1: dsl.Input[dsl.Model],
    stage_2: dsl.Input[dsl.Model],
    stage_3: dsl.Input[dsl.Model],
    stage_4: dsl.Input[dsl.Model],
    stage_5: dsl.Input[dsl.Model],
    exported: dsl.Input[dsl.Model],
    quantized: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    bundle: dsl.Input[dsl.Model],
    bundle_quantized: dsl.Input[dsl.Model],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Write down what a run used and made, so that a bundle can be followed back to its data.

    Args:
        data_digest: Of digest_data.
        data: Of preprocess_data.
        teacher: Of train_teacher.
        teacher_test: Of test_teacher.
        signals: Of compute_teacher_signals.
        stage_1: The student after stage 1.
        stage_2: The student after stage 2.
        stage_3: The student after stage 3.
        stage_4: The student after stage 4.
        stage_5: The student after stage 5.
        exported: Of export_model.
        quantized: Of quantize_model.
        evaluation: Of evaluate_models.
        bundle: The bundle in float32.
        bundle_quantized: The bundle that is served.
        record: JSON with the run's number, the code's revision, the data's digest, and the address
            and making time of every artifact.
    """
    import os
    from pathlib import Path

    from saarthi_lib import logs
    from saarthi_lib.lineage import RECORD_VARIABLE, made_by, origin
    from saarthi_lib.storage import read_json, write_json

    with logs.task():
        artifacts = {
            "data": data,
            "teacher": teacher,
            "teacher_test": teacher_test,
            "signals": signals,
            "stage_1": stage_1,
            "stage_2": stage_2,
            "stage_3": stage_3,
            "stage_4": stage_4,
            "stage_5": stage_5,
            "exported": exported,
            "quantized": quantized,
            "evaluation": evaluation,
            "bundle": bundle,
            "bundle_quantized": bundle_quantized,
        }
        entries = {}
        for name, artifact in artifacts.items():
            step = Path(artifact.path) / "step.json"
            seconds = {"seconds": read_json(step)["seconds"]} if step.is_file() else {}
            entries[name] = {"uri": artifact.uri, **seconds}
        content = {**made_by(), **origin(), "data_digest": data_digest, "artifacts": entries}
        write_json(record.path, content)
        record.metadata |= {**origin(), "data_digest": data_digest}
        # The process that runs the pipeline on one machine lays its folder out by this.
        if copy := os.environ.get(RECORD_VARIABLE):
            write_json(copy, content)
