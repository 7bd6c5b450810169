"""Student and teacher → explanation: word attributions of their answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import InputError
from saarthi_lib.steps.data import prepared_data
from saarthi_lib.steps.network import TrainedNetwork, predictor_of
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.storage import verify_record, write_json
from saarthi_lib.text.normalize import Normalizer

if TYPE_CHECKING:
    import pandas as pd

    from saarthi_lib.evaluation.explanation.attribution import Explainer, Method
    from saarthi_lib.evaluation.explanation.rows import Explanations, Row

_STEPS_OF_A_TEXT = 50  # steps of integrated gradients; affordable for a single text
_ALL_ERRORS = 10**9
_DEV_EXPLAINED = 3  # errors explained in a trial run
_FEW_EXPLAINED = 8  # errors explained by a pipeline whose configuration gives no number


@reads("run", "delivery")
def explain(
    config: TrainConfig,
    data: Path,
    teacher: Path,
    student: Path | None,
    delivered: Path | None,
    out: Path,
) -> dict[str, float]:
    """Explain errors of the test split and some right answers, word by word.

    Writes `explanations.json` and `explanations.html`, one self-contained page.

    Args:
        config: configuration.
        data: folder written by `preprocess`.
        teacher: folder written by `train_teacher`.
        student: folder written by the last `distil`; None explains only the teacher.
        delivered: folder written by `export` or `quantize`, with the bundle that gives the
            student's (or else the teacher's) answers and probabilities; None: the network gives
            them, with temperatures fitted on validation.
        out: folder to write.

    Returns:
        The mean of each metric from `explanation_metrics`.
    """
    from saarthi_lib.evaluation.explanation.attribution import METHODS
    from saarthi_lib.reports.explanations import write_explanations

    with recorded_step("explain", config, out, data, teacher, student, delivered) as folder:
        networks = [TrainedNetwork("student", student)] if student else []
        networks.append(TrainedNetwork("teacher", teacher))
        bundles = {networks[0].kind: delivered / "bundle"} if delivered else {}
        errors = config.explained_errors or _FEW_EXPLAINED
        if config.fast_dev_run:
            errors = min(errors, _DEV_EXPLAINED)
        chosen = (errors, -(-errors // 3))
        found = _explain_test_split(config, data, networks, bundles, METHODS, chosen)
        write_json(folder / "explanations.json", {"figures": found.metrics, "rows": found.rows})
        title = f"Why {config.name} answers as it does"
        write_explanations(folder / "explanations.html", found, title)
        return {name: value["mean"] for name, value in found.metrics.items()}


@reads("run", "delivery")
def explain_network(
    config: TrainConfig,
    data: Path,
    network: TrainedNetwork,
    bundle: Path | None,
    methods: Sequence["Method"],
    text: str | None,
    most: int | None,
) -> "Explanations":
    """Explain one network's answer to a text, or its errors on the test split.

    Args:
        config: configuration.
        data: folder written by `preprocess`.
        network: trained network.
        bundle: bundle made of the network, which gives answers and probabilities; None: the network
            gives them, with temperatures fitted on validation.
        methods: attribution methods.
        text: the text; None for the errors.
        most: most errors to explain; None for all.

    Raises:
        ArtifactError: the data or the network were changed or damaged.
        InputError: the text is empty.
    """
    from saarthi_lib.evaluation.explanation.rows import Explanations, Row, explain_rows

    for folder in (data, network.folder):
        verify_record(folder)
    bundles = {network.kind: bundle} if bundle else {}
    if text is None:
        chosen = (most or _ALL_ERRORS, 0)
        return _explain_test_split(config, data, [network], bundles, methods, chosen)
    normalized = Normalizer(prepared_data(data).summary["normalization"])(text)
    if not normalized.strip():
        raise InputError("the text is empty: give it at least one word")
    rows = explain_rows(
        {network.kind: explainer(data, network, bundle)},
        [Row(normalized)],
        methods,
        faithfulness=False,
        steps=_STEPS_OF_A_TEXT,
        seed=config.seed,
    )
    return Explanations(rows, {}, f"The answer of the {network.kind}.")


def explainer(data: Path, network: TrainedNetwork, bundle: Path | None = None) -> "Explainer":
    """Create an explainer for a trained network; see `explain_network`."""
    from saarthi_lib.evaluation.abstention import tempered
    from saarthi_lib.evaluation.explanation.attribution import Explainer
    from saarthi_lib.inference.predictor import Predictor

    prepared = prepared_data(data)
    if bundle:
        predictor = Predictor.load(bundle)
    else:
        uncalibrated, seed = predictor_of(data, network.served()), prepared.summary["seed"]
        predictor = tempered(uncalibrated, prepared.encoded("validation"), seed)
    return Explainer(predictor, network.served(), network.embeddings, prepared.tokenizer)


def _explain_test_split(
    config: TrainConfig,
    data: Path,
    networks: Sequence[TrainedNetwork],
    bundles: Mapping[str, Path],
    methods: Sequence["Method"],
    chosen: tuple[int, int],
) -> "Explanations":
    """Explain rows of the test split, chosen by the answers of the first model.

    Args:
        config: configuration.
        data: folder written by `preprocess`.
        networks: networks to explain.
        bundles: bundle of each network that has one, by kind.
        methods: attribution methods.
        chosen: most wrong and most right answers to explain.
    """
    from saarthi_lib.evaluation.evaluate import gold_answers, predict_table
    from saarthi_lib.evaluation.explanation.rows import (
        Explanations,
        choose,
        explain_rows,
        explanation_metrics,
    )
    from saarthi_lib.evaluation.metrics import right_rows

    explainers = {
        network.kind: explainer(data, network, bundles.get(network.kind)) for network in networks
    }
    kind, first = next(iter(explainers.items()))
    prepared = prepared_data(data)
    table = prepared.table("test")
    given, _ = predict_table(first.predictor, table)
    right = right_rows(config.task, gold_answers(table, config.task), given)
    taken = choose(right, *chosen, config.seed)
    rows = _as_rows(table.iloc[taken], config.task, prepared.summary["word_splitting"])
    explained = explain_rows(explainers, rows, methods, seed=config.seed)
    wrong, shown = int((~right).sum()), int((~right[taken]).sum())
    more = f" and {len(rows) - shown:,} right answers" if len(rows) > shown else ""
    about = (
        f"The {kind} has {wrong:,} errors on {len(table):,} test texts. This page shows "
        f"{shown:,} of them{more}."
    )
    return Explanations(explained, explanation_metrics(explained, methods), about)


def _as_rows(table: "pd.DataFrame", task: str, word_splitting: str) -> list["Row"]:
    """Rows to explain, with gold tags of the words that the service splits."""
    from saarthi_lib.evaluation.evaluate import NO_TAG, service_words
    from saarthi_lib.evaluation.explanation.rows import Row

    tags: list[list[str] | None] = [None] * len(table)
    if "tags" in table:
        found = service_words(table, task, word_splitting)
        tags = [[tag or NO_TAG for tag in row] for _, row in found]
    return [
        Row(text=row["text"], lang=row["lang"], label=row.get("label"), tags=gold)
        for row, gold in zip(table.to_dict("records"), tags, strict=True)
    ]
