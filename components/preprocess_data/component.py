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
) -> None:
    """Read, check, split, augment and encode labelled text.

    Args:
        run_config: Task, maximum length, seed and the other fields of the section `run`.
        data_config: Where the labelled text is, and how it is split and augmented.
        teacher_config: The teacher decides the vocabulary that is trimmed.
        data_digest: Digest of the input files, so that changed files are never served from a cache.
        data: Tables (Parquet), labels, the trimmed tokenizer and token ids of every split.
        check: What the data's check found, as a page.
    """
    import shutil
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig

    with logs.task():
        config = TrainConfig.from_mapping({**run_config, **data_config, **teacher_config})
        summary = steps.preprocess(config, Path(data.path))
        shutil.copyfile(Path(data.path) / "check.html", check.path)
        data.metadata |= {**summary["rows"], "vocabulary": summary["vocabulary"]}
        data.metadata |= {"check": summary["check"]}
        data.metadata |= {"digest": summary["digest"], "input_digest": data_digest}
