"""The playground: a page for trying the models of a server.

The page calls the server's public endpoints for predictions. Explanations have an endpoint of their
own and run through the batcher.

The playground is off by default. Access is that of `predictors.access.Gate`: by token, or under a
loopback name only; calls from pages of other origins are refused.
"""

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from predictors import codecs
from predictors.access import Gate
from predictors.errors import RequestError, as_request_error
from predictors.service import Service
from predictors.version import Version
from saarthi_lib.errors import InputError
from saarthi_lib.inference.batcher import Batcher
from saarthi_lib.inference.occlusion import Target, explain_logits, plan
from saarthi_lib.inference.predictor import RowLogits, Span

PATH = "/playground"
_FILES = {
    PATH: ("page.html", "text/html; charset=utf-8"),
    f"{PATH}/page.css": ("page.css", "text/css; charset=utf-8"),
    f"{PATH}/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

_Texts = tuple[str, list[Span] | None]  # a text and its words


class Playground:
    """The page, its files and its explanations.

    Args:
        service: shared parts of the server.
        batcher: batcher of the explanations' predictions.
    """

    def __init__(self, service: Service, batcher: Batcher) -> None:
        self._service = service
        self._lane = batcher.lane(_logits, characters=lambda row: len(row[0]))
        self._gate = Gate("the playground", service.settings.playground_token)
        folder = Path(__file__).parent
        self._files = {path: (folder / name).read_bytes() for path, (name, _) in _FILES.items()}

    def register(self, app: FastAPI) -> None:
        """Add the routes."""
        for path in _FILES:
            app.add_api_route(path, self._file, methods=["GET"], include_in_schema=False)
        app.add_api_route(f"{PATH}/explain", self._explain, methods=["POST"])

    async def _file(self, request: Request) -> Response:
        self._gate.admit(request.headers)
        path = request.url.path
        return Response(self._files[path], media_type=_FILES[path][1], headers=_HEADERS)

    async def _explain(self, request: Request) -> Response:
        self._gate.admit(request.headers)
        started = time.perf_counter()
        answer = await self.explain(codecs.read_json(await request.body()), started)
        answer["milliseconds"] = 1000 * (time.perf_counter() - started)
        return JSONResponse(answer, headers=_HEADERS)

    async def explain(self, content: dict[str, Any], started: float) -> dict[str, Any]:
        """Explain an answer by the words of its text.

        Args:
            content: `text`; optionally `model` (default: the first one) and `target` (an entity or
                tagged word of the answer with `start`, `end` and `label`; default: the label of the
                text).
            started: start on the clock of `time.perf_counter`.

        Raises:
            RequestError: the request cannot be used.
        """
        models = self._service.models
        named = content.get("model")
        model = models.first if named is None else models.find(str(named))
        [row] = codecs.read_predict(content, self._service.limits, codecs.EXPLAIN_FIELDS)
        target = _read_target(content.get("target"))
        version = model.version
        deadline = started + self._service.settings.deadline_seconds
        try:
            made = await asyncio.to_thread(plan, version.predictor, row.text)
            words = iter(made.spans or ())
            texts = [(text, next(words, None)) for text in made.texts]
            logits = await self._lane.submit(version, texts, deadline)
            predictor = version.predictor
            explanation = explain_logits(predictor.labels, predictor.task, made, logits, target)
        except InputError as error:
            raise RequestError(str(error).removeprefix("texts[0] ")) from error
        except Exception as error:
            raise as_request_error(error) or error from error
        return {**asdict(explanation), **version.stamp}


def _logits(version: Version, rows: list[_Texts]) -> list[RowLogits]:
    texts = [text for text, _ in rows]
    spans = [spans for _, spans in rows if spans is not None]
    return version.predictor.logits(texts, spans or None)


def _read_target(given: Any) -> Target | None:
    if given is None:
        return None
    match given:
        case {"start": int(start), "end": int(end), "label": str(label)}:
            return Target(start, end, label)
    raise RequestError('target must be an object with "start", "end" and "label" of the answer')
