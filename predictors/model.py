"""A bundle as a KServe model: one class for every task and every protocol."""

import re
import time
from dataclasses import replace
from typing import Any

from kserve import Model

from predictors.codecs import (
    V1,
    Answer,
    Limits,
    Row,
    input_types,
    output_types,
    read_json,
    read_v1,
)
from predictors.errors import InstanceError, RequestError
from predictors.metrics import ModelMetrics
from predictors.sources import Source
from predictors.version import Version
from saarthi_lib.bundle import BundleManifest
from saarthi_lib.errors import BundleError, InputError
from saarthi_lib.inference.batcher import Batcher


class BundleModel(Model):
    """Serves the newest version of one bundle under its manifest's name.

    Args:
        version: to begin with.
        source: where later ones come from.
        batcher: runs the predictions.
        limits: of requests.
        deadline_seconds: most that a request through KServe's own routes may take.
        max_labels: labels that are counted by name.
    """

    def __init__(
        self,
        version: Version,
        source: Source,
        batcher: Batcher,
        limits: Limits,
        deadline_seconds: float,
        max_labels: int,
    ) -> None:
        super().__init__(version.manifest.name)
        self.source = source
        self.version = version
        self.metrics = ModelMetrics(max_labels)
        self.lane = batcher.lane(_predict, self.metrics.observe_batch)
        self._limits = limits
        self._deadline_seconds = deadline_seconds
        self.ready = True

    @property
    def manifest(self) -> BundleManifest:
        """That of the version that answers new requests."""
        return self.version.manifest

    def replace(self, version: Version) -> None:
        """Answer all requests from now on with another version; those that run end with the old.

        Raises:
            BundleError: the version is not one of this model.
        """
        old, new = self.manifest, version.manifest
        if (old.name, old.task) != (new.name, new.task):
            raise BundleError(
                f"{self.source.uri}: is {new.name!r} for {new.task}, where {old.name!r} for "
                f"{old.task} is served; serve it under its own name"
            )
        self.version = version

    def get_input_types(self) -> list[dict[str, Any]]:
        """V2 metadata of the inputs."""
        return input_types()

    def get_output_types(self) -> list[dict[str, Any]]:
        """V2 metadata of the outputs."""
        return output_types(self.manifest)

    async def answer(self, rows: list[Row], deadline: float) -> tuple[list[Answer], BundleManifest]:
        """Answer rows, off the event loop, all by one version.

        Args:
            rows: checked ones.
            deadline: in the time of `time.perf_counter`.

        Raises:
            QueueFullError: there is no room for them.
            DeadlineError: the deadline has passed.
            InstanceError: the library refuses one of them.
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
        """Answer a V1 body that came through KServe's own route (a CloudEvent).

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


def _predict(version: Version, rows: list[Row]) -> list[Answer]:
    most = max(row.top_k for row in rows)
    try:
        predictions = version.predictor.predict(
            [row.text for row in rows], [row.lang for row in rows], most
        )
    except InputError as error:
        raise _of_instance(error, rows) from error
    return [
        (
            prediction
            if row.top_k == most
            else replace(prediction, top_k=prediction.top_k[: row.top_k])
        ).to_dict()
        | version.stamp
        for row, prediction in zip(rows, predictions, strict=True)
    ]


def _of_instance(error: InputError, rows: list[Row]) -> Exception:
    """An error about one of the rows, which the library names `texts[3]`, with its own index."""
    named = re.fullmatch(r"texts\[(\d+)\] (.*)", str(error), re.DOTALL)
    return InstanceError(rows[int(named[1])].index, named[2]) if named else RequestError(str(error))
