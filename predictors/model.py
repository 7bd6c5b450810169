"""A bundle as a KServe model: one class for every task and every protocol."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from kserve import Model

from predictors.codecs import V1, Answer, Limits, Row, read_json, read_v1
from predictors.errors import InstanceError, RequestError
from predictors.metrics import ModelMetrics
from predictors.settings import Settings
from predictors.sources import Source
from predictors.version import Version
from saarthi_lib.bundle import BundleManifest
from saarthi_lib.errors import BundleError, InputError
from saarthi_lib.inference.batcher import Batcher
from saarthi_lib.tasks import has_sequence_head, has_token_head, uses_bio


class BundleModel(Model):
    """Serves the newest version of one bundle under its manifest's name.

    Args:
        version: first version.
        source: source of later versions.
        batcher: batcher of the predictions.
        limits: limits of requests.
        settings: the server's settings.
    """

    def __init__(
        self, version: Version, source: Source, batcher: Batcher, limits: Limits, settings: Settings
    ) -> None:
        super().__init__(version.manifest.name)
        self.source = source
        self.version = version
        self.metrics = ModelMetrics(settings.max_labels)
        self.lane = batcher.lane(_predict, self.metrics.observe_batch, lambda row: len(row.text))
        self._limits = limits
        self._deadline_seconds = settings.deadline_seconds
        self.ready = True

    @property
    def manifest(self) -> BundleManifest:
        """Manifest of the version that answers new requests."""
        return self.version.manifest

    @property
    def metadata(self) -> dict[str, Any]:
        """The manifest, with the labels that answers can have and the thresholds that apply."""
        found = self.manifest.to_dict() | _labels(self.version)
        limits = self._limits
        if limits.threshold is not None:
            found |= {"threshold": limits.threshold, "language_thresholds": {}}
        found["threshold_limits"] = [limits.min_threshold, limits.max_threshold]
        return found

    def replace(self, version: Version) -> None:
        """Answer new requests with another version; running ones end with the old version.

        Raises:
            BundleError: the bundle has another name or task.
        """
        old, new = self.manifest, version.manifest
        if (old.name, old.task) != (new.name, new.task):
            raise BundleError(
                f"{self.source.uri}: is {new.name!r} for {new.task}, where {old.name!r} for "
                f"{old.task} is served; serve it under its own name"
            )
        self.version = version

    async def answer(
        self, rows: Sequence[Row], deadline: float
    ) -> tuple[list[Answer], BundleManifest]:
        """Answer rows off the event loop, all by one version.

        Args:
            rows: checked rows.
            deadline: deadline on the clock of `time.perf_counter`.

        Raises:
            QueueFullError: the queue is full.
            DeadlineError: the deadline has passed.
            InstanceError: the library refuses one of the texts.
        """
        version = self.version
        answers = await self.lane.submit(version, rows, deadline)
        self.metrics.observe_answers(rows, answers)
        return answers, version.manifest

    async def predict(
        self,
        payload: Any,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Answer a V1 body from KServe's own route (a CloudEvent).

        Raises:
            RequestError: the request cannot be used; the message names the instance.
        """
        content = read_json(payload) if isinstance(payload, bytes) else payload
        deadline = time.perf_counter() + self._deadline_seconds
        try:
            answers, _ = await self.answer(read_v1(content, self._limits), deadline)
        except InstanceError as error:
            raise error.named(V1.text) from error
        return {"predictions": answers}


def _labels(version: Version) -> dict[str, list[str]]:
    """Possible labels in the fields of the answers: `label`, `entities` and `tokens`."""
    labels, task = version.predictor.labels, version.manifest.task
    found = {}
    if has_sequence_head(task):
        found["labels"] = list(labels.answers)
    if uses_bio(task):
        found["entity_labels"] = sorted({tag[2:] for tag in labels.token if tag[1:2] == "-"})
    elif has_token_head(task):
        found["token_labels"] = list(labels.token)
    return found


def _predict(version: Version, rows: list[Row]) -> list[Answer]:
    most = max(row.top_k for row in rows)
    try:
        predictions = version.predictor.predict(
            [row.text for row in rows],
            [row.lang for row in rows],
            most,
            [row.threshold for row in rows],
        )
    except InputError as error:
        raise _instance_error(error, rows) from error
    answers, stamp = [], version.stamp
    for row, prediction in zip(rows, predictions, strict=True):
        if row.top_k != most:
            prediction = replace(prediction, top_k=prediction.top_k[: row.top_k])
        answer = cast("Answer", prediction.to_dict())
        answer["model"], answer["version"] = stamp["model"], stamp["version"]
        answers.append(answer)
    return answers


def _instance_error(error: InputError, rows: list[Row]) -> Exception:
    """Convert an error about `texts[3]` of a batch into one about the request's own row."""
    named = re.fullmatch(r"texts\[(\d+)\] (.*)", str(error), re.DOTALL)
    if named is None:
        return RequestError(str(error))
    return InstanceError(rows[int(named[1])].position, named[2])
