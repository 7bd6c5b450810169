"""Read, check, split, augment and encode labelled text."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def preprocess_data(
    run_config: dict,
    data_config: dict,
    teacher_config: dict,
    data_digest: str,
    data: dsl.Output[dsl.Dataset],
    check: dsl.Output[dsl.HTML],
    source: dsl.Input[dsl.Dataset] | None = None,
) -> str:
    """Read, check, split, augment and encode labelled text.

    Args:
        run_config: Task, maximum length, seed and the other fields of the section `run`.
        data_config: Folder of the labelled text (input_path), splits and augmentation.
        teacher_config: Name of the teacher, whose vocabulary is trimmed to the data.
        data_digest: Output of digest_data; a cached result is reused only for unchanged files. With
            `source` it may be empty: a cached result is then reused for the same artifact.
        data: Folder with tables (Parquet), labels, the trimmed tokenizer and the token ids of every
            split.
        check: Report of the data check as an HTML page.
        source: Labelled text as an artifact, of dsl.importer or another task, in place of
            input_path; missing: input_path.

    Returns:
        URI and duration of the output, for record_run.
    """
    import shutil

    from saarthi_lib import steps
    from saarthi_lib.steps.task import paths, record_of, task

    with task(run_config, data_config, teacher_config, source=source) as config:
        [out] = paths(data)
        summary = steps.preprocess(config, out)
        shutil.copyfile(out / "check.html", check.path)
        shown = {name: summary[name] for name in ("vocabulary", "check", "digest")}
        data.metadata |= {**summary["rows"], **shown, "input_digest": data_digest}
        return record_of(data=data)
