"""Student and teacher → explanation: word attributions of their answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import InputError
from saarthi_lib.steps.data import prepared_data
from saarthi_lib.steps.network import TrainedNetwork, network_predictor
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.storage import verify_record, write_json
from saarthi_lib.tasks import uses_bio
from saarthi_lib.text.normalize import Normalizer
from saarthi_lib.text.words import split_words

if TYPE_CHECKING:
    from saarthi_lib.evaluation.attribution import Explainer, Method
    from saarthi_lib.evaluation.explanation import Row

_GRADIENTS_OF_A_TEXT = 50  # steps of integrated gradients; affordable for a single text
_ALL_ERRORS = 10**9
_DEV_EXPLAINED = 3  # errors explained in a trial run


@reads("run", "delivery")
def explain(
    config: TrainConfig, data: Path, teacher: Path, student: Path | None, out: Path
) -> dict[str, float]:
    """Explain errors of the test split and some right answers, word by word.

    Writes `explanations.json` and `explanations.html`, one self-contained page.

    Args:
        config: configuration.
        data: folder written by `preprocess`.
        teacher: folder written by `train_teacher`.
        student: folder written by the last `distil`; None explains only the teacher.
        out: folder to write.

    Returns:
        The mean of each metric from `evaluation.explanation.figures`.
    """
    from saarthi_lib.evaluation.explanation import explain_rows, figures
    from saarthi_lib.reports.explanations import write_explanations

    with recorded_step("explain", config, out, data, teacher, student) as folder:
        models = {"student": student, "teacher": teacher}
        networks = [TrainedNetwork(kind, path) for kind, path in models.items() if path]
        rows, told = _rows_to_explain(config, data, networks[0])
        explainers = {network.kind: explainer(data, network) for network in networks}
        described = explain_rows(explainers, rows, seed=config.seed)
        measured = figures(described)
        write_json(folder / "explanations.json", {"figures": measured, "rows": described})
        write_explanations(
            folder / "explanations.html",
            described,
            measured,
            title=f"Why {config.name} answers as it does",
            about=told,
        )
        return {name: value["mean"] for name, value in measured.items()}


@reads("run", "delivery")
def explain_network(
    config: TrainConfig,
    data: Path,
    network: TrainedNetwork,
    methods: Sequence["Method"],
    text: str | None,
    most: int | None,
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]], str]:
    """Explain one network's answer to a text, or its errors on the test split.

    Returns:
        Explained rows from `explain_rows`, metrics from `figures` (empty for a text), and a
        sentence that describes the rows.

    Raises:
        ArtifactError: the data or the network were changed or damaged.
        InputError: the text is empty.
    """
    from saarthi_lib.evaluation.explanation import Row, explain_rows, figures

    for folder in (data, network.folder):
        verify_record(folder)
    models = {network.kind: explainer(data, network)}
    if text is not None:
        normalized = Normalizer(prepared_data(data).summary["normalization"])(text)
        if not normalized.strip():
            raise InputError("the text is empty: give it at least one word")
        described = explain_rows(
            models,
            [Row(normalized)],
            methods,
            faithfulness=False,
            steps=_GRADIENTS_OF_A_TEXT,
            seed=config.seed,
        )
        return described, {}, f"What the {network.kind} answers."
    rows, about = _rows_to_explain(config, data, network, most or _ALL_ERRORS)
    described = explain_rows(models, rows, methods, seed=config.seed)
    return described, figures(described, methods), about


def explainer(data: Path, network: TrainedNetwork) -> "Explainer":
    """Create an explainer for a trained network."""
    from saarthi_lib.evaluation.attribution import Explainer

    prepared = prepared_data(data)
    summary = prepared.summary
    return Explainer(
        network.served(),
        network.embeddings,
        prepared.tokenizer,
        prepared.labels,
        summary["task"],
        summary["max_seq_len"],
        summary["word_splitting"],
    )


def _rows_to_explain(
    config: TrainConfig, data: Path, network: TrainedNetwork, most: int | None = None
) -> tuple[list["Row"], str]:
    """Choose test rows by a network's answers.

    Returns:
        Errors, then a third as many right answers unless `most` is given; and a sentence that
        describes them.
    """
    from saarthi_lib.data.alignment import tags_of_words
    from saarthi_lib.data.encode import file_words
    from saarthi_lib.evaluation.evaluate import NO_TAG, gold_answers, predict_table
    from saarthi_lib.evaluation.explanation import Row, choose
    from saarthi_lib.evaluation.metrics import right_rows

    prepared = prepared_data(data)
    table, splitting = prepared.table("test"), prepared.summary["word_splitting"]
    given, _ = predict_table(network_predictor(data, network), table)
    right = right_rows(config.task, gold_answers(table, config.task), given)
    errors = config.explained_errors
    if config.fast_dev_run:
        errors = min(errors, _DEV_EXPLAINED)
    others = -(-errors // 3)
    if most is not None:
        errors, others = most, 0
    chosen = choose(right, errors, others, config.seed)
    part = table.iloc[chosen]
    tags: list[list[str] | None] = [None] * len(part)
    if "tags" in part:
        bio = uses_bio(config.task)
        for at, (text, spans, gold) in enumerate(
            zip(part["text"], file_words(part), part["tags"], strict=True)
        ):
            found = tags_of_words(split_words(text, splitting), spans, list(gold), bio=bio)
            tags[at] = [tag or NO_TAG for tag in found]
    rows = [
        Row(text=row["text"], lang=row["lang"], label=row.get("label"), tags=gold)
        for row, gold in zip(part.to_dict("records"), tags, strict=True)
    ]
    wrong = int((~right).sum())
    shown = int((~right[chosen]).sum())
    told = (
        f"Of {len(table):,} test texts the {network.kind} got {wrong:,} wrong: here are {shown:,} "
        "of those"
        + (f" and {len(rows) - shown:,} that it got right." if len(rows) > shown else ".")
    )
    return rows, told
