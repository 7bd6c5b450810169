"""KServe's model server around our models, which never blocks and stops without loss.

Of KServe come the application with its routes, the protocols and the gRPC service. KServe 0.21
itself listens on all interfaces, logs each request, returns the text of any exception and closes
its ports on SIGTERM at once; what stands here in its place does none of it.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from kserve import ModelRepository
from kserve.model_server import app as kserve_application
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from prometheus_client import REGISTRY

from predictors.access import Gate
from predictors.codecs import Limits
from predictors.connections import Connection, ConnectionLimits
from predictors.errors import NotOfferedError, RequestError
from predictors.http import HttpFront
from predictors.metrics import Metrics
from predictors.model import BundleModel
from predictors.models import Models, summary, v2_metadata
from predictors.playground import PATH as PLAYGROUND
from predictors.playground import Playground
from predictors.reload import Reloader
from predictors.request_log import RequestLog
from predictors.rpc import start_grpc
from predictors.service import Service
from predictors.settings import Settings
from predictors.sources import Source
from predictors.version import Version
from saarthi_lib.inference.batcher import Batcher
from saarthi_lib.logs import get_logger

logger = get_logger("predictors")


def run(
    settings: Settings, versions: Sequence[tuple[Source, Version]], listener: socket.socket
) -> None:
    """Serve loaded bundles until a signal.

    Args:
        settings: the server's.
        versions: of different names, the first for requests that name none.
        listener: a bound socket for HTTP.

    Raises:
        ConfigError: the gRPC port is taken.
    """
    executor = ThreadPoolExecutor(settings.workers, "predict")
    batcher = Batcher(executor, settings.workers, settings.max_batch, settings.max_queue)
    limits = Limits(settings.max_instances, settings.max_text_characters)
    by_name = {
        version.manifest.name: BundleModel(
            version, source, batcher, limits, settings.deadline_seconds, settings.max_labels
        )
        for source, version in versions
    }
    reloader = Reloader(by_name, settings.reload_seconds, settings.threads, settings.trusted_keys)
    gate = Gate("the repository API", settings.repository_token)
    models = Models(by_name, reloader if settings.repository_api else None, gate)
    metrics = Metrics(by_name)
    log = RequestLog(settings.access_log, settings.log_texts)
    service = Service(
        models, limits, settings.max_body_bytes, settings.deadline_seconds, metrics, log
    )
    playground = None
    if settings.playground:
        playground = Playground(service, batcher, settings.playground_token)
    http = _http_server(settings, service, playground)
    REGISTRY.register(metrics)
    try:
        with asyncio.Runner(loop_factory=http.config.get_loop_factory()) as runner:
            runner.run(_serve(settings, service, http, listener, reloader))
    finally:
        REGISTRY.unregister(metrics)
        executor.shutdown(wait=False, cancel_futures=True)


def _http_server(
    settings: Settings, service: Service, playground: Playground | None
) -> "_HttpServer":
    registry = ModelRepository()
    registry.models.update(service.models.by_name)
    extension = ModelRepositoryExtension(registry)
    rest = _KServeRest(service.models, playground, DataPlane(registry), extension)
    rest.create_application()
    limits = ConnectionLimits(
        settings.max_connections, settings.deadline_seconds, settings.keep_alive_seconds
    )
    config = uvicorn.Config(
        HttpFront(kserve_application, service, settings.max_reading_bytes),
        http=partial(Connection, limits=limits),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
    )
    return _HttpServer(config)


async def _serve(
    settings: Settings,
    service: Service,
    http: "_HttpServer",
    listener: socket.socket,
    reloader: Reloader,
) -> None:
    """Serve until a signal, drain, and end what is in flight."""
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    grpc = None
    if settings.grpc_port:
        grpc = await start_grpc(service, settings)
    http_task = asyncio.create_task(http.serve(sockets=[listener]))
    http_task.add_done_callback(lambda _: signals.put_nowait(signal.SIGINT))  # if it fails
    reloading = asyncio.create_task(reloader.run())
    addresses = [f"http://{settings.host}:{settings.http_port}"]
    if grpc:
        addresses.append(f"grpc://{settings.host}:{settings.grpc_port}")
    for name, model in service.models.by_name.items():
        version, task = model.manifest.version, model.manifest.task
        logger.info("serving %s, version %s (%s): %s", name, version, task, ", ".join(addresses))
    if settings.playground:
        logger.info("playground: %s%s", addresses[0], PLAYGROUND)
    received = await signals.get()
    service.models.draining = True
    if received == signal.SIGTERM:
        with suppress(TimeoutError):
            await asyncio.wait_for(signals.get(), settings.drain_seconds)
    reloading.cancel()
    http.should_exit = True
    await asyncio.gather(http_task, *([grpc.stop(settings.grace_seconds)] if grpc else []))


class _HttpServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: a signal drains before it stops."""
        yield


class _KServeRest(RESTServer):
    """KServe's application, with our own answers about models and health, and our errors."""

    def __init__(
        self,
        models: Models,
        playground: Playground | None,
        data_plane: DataPlane,
        repository: ModelRepositoryExtension,
    ) -> None:
        super().__init__("", data_plane, repository, http_port=0)
        self._models = models
        self._playground = playground

    def _register_endpoints(self, app: FastAPI) -> None:
        """Ours come first, and so they are found before KServe's of the same path."""
        routes: dict[str, Callable[..., Any]] = {
            "/": self._live,
            "/metadata": self._metadata,
            "/v1/models/{name}": self._v1_model,
            "/v2/health/ready": self._ready,
            "/v2/models/{name}": self._v2_model,
            "/v2/models/{name}/versions/{version}": self._v2_model,
            "/v2/models/{name}/ready": self._v2_model_ready,
            "/v2/models/{name}/versions/{version}/ready": self._v2_model_ready,
        }
        for path, answer in routes.items():
            app.add_api_route(path, answer, methods=["GET"])
        repository = "/v2/repository/models/{name}"
        app.add_api_route(f"{repository}/load", self._load, methods=["POST"])
        app.add_api_route(f"{repository}/unload", self._unload, methods=["POST"])
        if self._playground:
            self._playground.register(app)
        super()._register_endpoints(app)

    def _add_exception_handlers(self, app: FastAPI) -> None:
        super()._add_exception_handlers(app)
        app.add_exception_handler(RequestError, _refuse)
        app.add_exception_handler(Exception, _fail)

    def _add_middlewares(self, app: FastAPI) -> None:
        """None: KServe's only one logs the timing of every request."""

    async def _live(self) -> dict[str, Any]:
        return {"status": "alive", "models": self._summaries()}

    async def _ready(self) -> JSONResponse:
        ready = self._models.ready
        return JSONResponse({"ready": ready, "models": self._summaries()}, 200 if ready else 503)

    async def _metadata(self) -> dict[str, Any]:
        return {"models": [m.manifest.to_dict() for m in self._models.by_name.values()]}

    async def _v1_model(self, name: str) -> JSONResponse:
        model, ready = self._models.find(name), self._models.ready
        content = {"name": name, "ready": ready, "metadata": model.manifest.to_dict()}
        return JSONResponse(content, 200 if ready else 503)

    async def _v2_model(self, name: str, version: str = "") -> dict[str, Any]:
        return v2_metadata(self._models.find(name, version))

    async def _v2_model_ready(self, name: str, version: str = "") -> JSONResponse:
        model, ready = self._models.find(name, version), self._models.ready
        return JSONResponse({"name": model.name, "ready": ready}, 200 if ready else 503)

    async def _load(self, name: str, request: Request) -> dict[str, Any]:
        self._models.gate.admit(request.headers)
        await self._models.load(name)
        return {"name": name, "load": True}

    async def _unload(self, name: str) -> dict[str, Any]:
        raise NotOfferedError("models cannot be unloaded: stop the server")

    def _summaries(self) -> list[dict[str, Any]]:
        return [summary(model) for model in self._models.by_name.values()]


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return JSONResponse({"error": str(error)}, error.status, headers)


async def _fail(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "internal error"}, 500)  # uvicorn logs the error itself
