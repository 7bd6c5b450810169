"""Training that starts from the network of an earlier run instead of from the beginning.

`preprocess` writes which run that is, and its rows keep their splits. A network is trained further
if it is of the same kind: same task, teacher, fields and sizes. The result is used if it is not
worse than a training from the beginning was: on the validation rows that both runs have, the main
metric must reach the lower end of the 95% interval of that training. Otherwise the step trains from
the beginning. The interval stays the same from run to run, so that quality cannot drift.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from saarthi_lib.config import TrainConfig
from saarthi_lib.config.changes import changed_fields, described
from saarthi_lib.errors import ArtifactError
from saarthi_lib.layout import (
    STAGES,
    START,
    RunLayout,
    digest_of_step,
    read_mapping,
    read_record,
)
from saarthi_lib.logs import get_logger
from saarthi_lib.steps.data import prepared_data
from saarthi_lib.steps.network import TrainedNetwork, network_predictor
from saarthi_lib.storage import RECORD, read_json, verify_record, write_json
from saarthi_lib.tasks import bio_spans, has_sequence_head, has_token_head, uses_bio

if TYPE_CHECKING:
    import pandas as pd

    from saarthi_lib.data.preprocess import Start

logger = get_logger("steps")

FEWER_EPOCHS = 2  # a teacher that starts from another one has this part of the epochs
_LEAST_COMMON = 0.5  # share of the validation rows of the first run that must be left


class Beginning(TypedDict):
    """A training from the beginning, on validation.

    Attributes:
        main: main metric.
        low: lower end of its 95% interval.
        rows: number of rows.
        seconds: seconds of the step.
    """

    main: float
    low: float
    rows: int
    seconds: float


class Outcome(TypedDict):
    """Content of `start.json` in the folder of a network.

    Attributes:
        run: the earlier run.
        further: whether the network was trained further from the one of that run.
        reason: why not.
        main: main metric of the network that was trained further, used or not.
        beginning: the training that it was compared with.
    """

    run: str
    further: bool
    reason: str
    main: NotRequired[float]
    beginning: NotRequired[Beginning]


@dataclass
class EarlierNetwork:
    """The teacher or student of an earlier run, and the outcome of training it further.

    Attributes:
        part: `teacher` or `student`.
        data: folder written by `preprocess` in this run.
        start: its `start.json`.
        outcome: content of `start.json` for the folder of the network.
    """

    part: str
    data: Path
    start: "Start"
    outcome: Outcome

    @classmethod
    def of(cls, config: TrainConfig, data: Path, part: str) -> "EarlierNetwork | None":
        """The network that a training starts from; None if the run starts from no other.

        Raises:
            ArtifactError: the network was changed since `preprocess` read it.
        """
        if not (data / START).is_file():
            return None
        start: Start = read_json(data / START)
        network = cls(part, data, start, {"run": start["run"], "further": False, "reason": ""})
        network.refuse(start["cold"] or network._reason_against(config))
        return network

    @property
    def is_usable(self) -> bool:
        """Whether nothing speaks against it so far."""
        return not self.outcome["reason"]

    def refuse(self, reason: str) -> None:
        """Train from the beginning, for this reason; an empty one changes nothing."""
        if reason:
            self.outcome["reason"], self.outcome["further"] = reason, False
            logger.info(
                "%s: not trained further from %s, because %s", self.part, self.start["run"], reason
            )

    @cached_property
    def layout(self) -> RunLayout:
        """Paths of the earlier run."""
        return RunLayout.of(Path(self.start["run"]))

    @property
    def folder(self) -> Path:
        """Folder of the earlier network."""
        return self.layout.teacher if self.part == "teacher" else self.layout.stage()

    def _reason_against(self, config: TrainConfig) -> str:
        digest = self.start["networks"].get(self.part)
        if not digest:
            return f"the run keeps no {self.part}"
        if digest_of_step(self.folder) != digest:
            raise ArtifactError(
                f"{self.folder}: was changed since the data of this run were prepared; run the "
                "same command again"
            )
        verify_record(self.folder)
        record = read_record(self.layout.root)
        changed = changed_fields(config, record, "run", self.part)
        return described(changed)

    # --- names of labels and tokens ---------------------------------------------------------------

    def rows_of_labels(self, head: str) -> list[int]:
        """For each label or tag of this run, its row in the earlier head; -1: none."""
        before, now = (
            getattr(prepared_data(data).labels, head) for data in (self.layout.data, self.data)
        )
        known = {self._now(name): row for row, name in enumerate(before)}
        return [known.get(name, -1) for name in now]

    def rows_of_tokens(self) -> list[int]:
        """For each token of this run, its row in the earlier embedding; -1: none."""
        before, now = (
            prepared_data(data).vocabulary["kept_ids"] for data in (self.layout.data, self.data)
        )
        known = {token: row for row, token in enumerate(before)}
        return [known.get(token, -1) for token in now]

    def _now(self, name: str) -> str:
        """Name in this run of an earlier label or tag; the same, if it was not renamed."""
        renamed, half = self.start["renamed"], name[:2]
        if half in ("B-", "I-") and name[2:] in renamed:
            return half + renamed[name[2:]]
        return renamed.get(name, name)

    # --- comparison -------------------------------------------------------------------------------

    def accept(self, made: Path) -> bool:
        """Whether the network that was trained further is used; the outcome has the comparison.

        Args:
            made: folder of the network, as far as it is written.
        """
        table = self._common_rows()
        if table.empty:
            self.refuse("no validation row of that run is left to compare them on")
            return False
        beginning = self._beginning(table)
        if len(table) < _LEAST_COMMON * beginning["rows"]:
            self.refuse(
                f"only {len(table)} of {beginning['rows']} validation rows are left to compare on"
            )
            return False
        network = TrainedNetwork(self.part, made)
        main = _scores(self.data, network, table, lambda name: name)["main"]
        self.outcome |= {"main": main, "beginning": beginning}
        said = (
            f"{100 * main:.1f} on {len(table)} validation rows; from the beginning "
            f"{100 * beginning['main']:.1f} (at least {100 * beginning['low']:.1f} with 95% "
            "confidence)"
        )
        if main < beginning["low"]:
            self.refuse(f"it is worse: {said}")
            return False
        self.outcome["further"] = True
        logger.info("%s: trained further from %s: %s", self.part, self.start["run"], said)
        return True

    def _common_rows(self) -> "pd.DataFrame":
        """Validation rows that both runs have, with the labels of now that both know."""
        before, now = prepared_data(self.layout.data), prepared_data(self.data)
        table = now.table("validation")
        table = table[table["text"].isin(set(before.table("validation")["text"]))]
        if has_sequence_head(now.summary["task"]):
            known = {self._now(name) for name in before.labels.answers}
            table = table[table["label"].isin(known)]
        return table.reset_index(drop=True)

    def _beginning(self, table: "pd.DataFrame") -> Beginning:
        """The last training from the beginning: that of the earlier run, or of one before it."""
        folder = self.folder if self.part == "teacher" else self.layout.stage(1)
        earlier = read_mapping(folder / START)
        if earlier.get("further"):
            handed_on: Beginning = earlier["beginning"]
            return handed_on
        names = {self._now(name): name for name in self._names_before()}
        network = TrainedNetwork(self.part, self.folder)
        scores = _scores(self.layout.data, network, table, lambda name: names.get(name, name))
        return {**scores, "rows": len(table), "seconds": seconds_of(self.layout, self.part)}

    def _names_before(self) -> set[str]:
        labels = prepared_data(self.layout.data).labels
        return {*labels.sequence, *labels.token}

    def write(self, folder: Path) -> None:
        """Write the outcome into the folder of the network."""
        write_json(folder / START, self.outcome)


class _Scores(TypedDict):
    main: float
    low: float


def _scores(
    data: Path, network: TrainedNetwork, table: "pd.DataFrame", name: Callable[[str], str]
) -> _Scores:
    """Main metric of a network on rows, with the lower end of its 95% interval.

    Args:
        data: data of the network's run.
        network: the network.
        table: labelled rows.
        name: gives the network's name of a label or tag of the rows.
    """
    from saarthi_lib.evaluation.evaluate import evaluate_table, gold_answers

    predictor = network_predictor(data, network)
    task = predictor.task
    if has_sequence_head(task):
        table = table.assign(label=[name(label) for label in table["label"]])
    if has_token_head(task):
        table = table.assign(tags=table["tags"].map(lambda tags: [name(tag) for tag in tags]))
    scores, given, _ = evaluate_table(predictor, table)
    gold = gold_answers(table, task)
    return {"main": scores["main"], "low": _lower_end(task, gold, given, scores["main"])}


def _lower_end(task: str, gold: Any, given: Any, main: float) -> float:
    """Lower end of Wilson's 95% interval; for spans of F1, as in the report (`breakdown`)."""
    from saarthi_lib.evaluation.calibration import wilson_interval
    from saarthi_lib.evaluation.metrics import aligned_tags

    if not has_token_head(task) or has_sequence_head(task):
        texts = len(gold.labels)
        return float(wilson_interval(main * texts, texts)[0])
    if not uses_bio(task):
        words = sum(map(len, gold.tags))
        return float(wilson_interval(main * words, words)[0])
    hits = trials = 0
    for right, answer in zip(gold.tags, aligned_tags(gold, given), strict=True):
        one, other = set(bio_spans(list(right))), set(bio_spans(answer))
        hits, trials = hits + len(one & other), trials + len(one | other)
    low = wilson_interval(hits, trials)[0]
    return float(2 * low / (1 + low))


def seconds_of(layout: RunLayout, part: str) -> float:
    """Seconds of the steps of a network in a run."""
    folders = [layout.teacher] if part == "teacher" else [layout.stage(n) for n in STAGES]
    return round(sum(read_mapping(each / RECORD).get("seconds", 0.0) for each in folders), 2)


def saved_seconds(layout: RunLayout) -> dict[str, float]:
    """Seconds that training further has saved, by network; one trained from the beginning lacks.

    Args:
        layout: paths of a finished run.
    """
    found = {}
    for part, folder in (("teacher", layout.teacher), ("student", layout.stage(1))):
        outcome = read_mapping(folder / START)
        if outcome.get("further"):
            found[part] = round(outcome["beginning"]["seconds"] - seconds_of(layout, part), 1)
    return found


def log_saved(layout: RunLayout) -> dict[str, float]:
    """Log the time that training further has saved; see `saved_seconds`."""
    saved = saved_seconds(layout)
    for part, seconds in saved.items():
        now = seconds_of(layout, part)
        logger.info(
            "%s: trained further in %.0f s; from the beginning it took %.0f s: %.0f s saved",
            part,
            now,
            now + seconds,
            seconds,
        )
    return saved
