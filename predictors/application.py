"""KServe's model server around our models: it never blocks and loses no request when it stops.

KServe provides the application with its routes, the protocols and the gRPC service. The server
itself is ours, because KServe 0.21 listens on all interfaces, logs each request, returns the text
of any exception, and closes its ports at once on SIGTERM.
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
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from kserve import ModelRepository
from kserve.model_server import app as kserve_application
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from prometheus_client import REGISTRY
from starlette.exceptions import HTTPException

from predictors.access import Gate
from predictors.codecs import Limits
from predictors.connections import Connection
from predictors.errors import NotOfferedError, RequestError
from predictors.http import HttpFront
from predictors.metrics import Metrics
from predictors.model import BundleModel
from predictors.models import Models, summary, v2_metadata
from predictors.openapi import document
from predictors.playground import PATH as PLAYGROUND
from predictors.playground import Playground
from predictors.reload import Reloader
from predictors.request_log import RequestLog
from predictors.rpc import start_grpc
from predictors.service import Service
from predictors.settings import Settings
from predictors.sources import Source
from predictors.version import Version
from saarthi_lib.errors import ConfigError
from saarthi_lib.inference.batcher import Batcher
from saarthi_lib.logs import get_logger

_EXPOSED = ("x-request-id", "retry-after", "inference-header-content-length", "traceparent")
_BACKLOG = 2048  # connections that wait to be accepted, as uvicorn's default

logger = get_logger("predictors")


def run(
    settings: Settings, versions: Sequence[tuple[Source, Version]], listener: socket.socket
) -> None:
    """Serve loaded bundles until a signal.

    Args:
        settings: the server's settings.
        versions: sources and versions of bundles with different names; the first one answers
            requests without a name.
        listener: bound socket for HTTP.

    Raises:
        ConfigError: a port is taken.
    """
    executor = ThreadPoolExecutor(settings.workers, "predict")
    batcher = Batcher(executor, settings.workers, settings.max_batch, settings.max_queue)
    limits = Limits(
        settings.max_instances,
        settings.max_text_characters,
        settings.threshold,
        settings.min_threshold,
        settings.max_threshold,
    )
    by_name = {
        version.manifest.name: BundleModel(version, source, batcher, limits, settings)
        for source, version in versions
    }
    reloader = Reloader(by_name, settings)
    gate = Gate("the repository API", settings.repository_token)
    models = Models(by_name, reloader if settings.repository_api else None, gate)
    metrics = Metrics(by_name)
    log = RequestLog(settings.access_log, settings.log_texts)
    service = Service(models, limits, settings, metrics, log)
    playground = Playground(service, batcher) if settings.playground else None
    http = _http_server(service, playground)
    REGISTRY.register(metrics)
    try:
        with asyncio.Runner(loop_factory=http.config.get_loop_factory()) as runner:
            runner.run(_serve(service, http, listener, reloader))
    finally:
        REGISTRY.unregister(metrics)
        executor.shutdown(wait=False, cancel_futures=True)


def _http_server(service: Service, playground: Playground | None) -> "_HttpServer":
    settings = service.settings
    registry = ModelRepository()
    registry.models.update(service.models.by_name)
    extension = ModelRepositoryExtension(registry)
    rest = _KServeRest(service.models, playground, DataPlane(registry), extension)
    rest.create_application()
    front: Any = HttpFront(kserve_application, service)
    if settings.cors_origins:
        front = CORSMiddleware(
            front,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            expose_headers=_EXPOSED,
        )
    config = uvicorn.Config(
        front,
        http=partial(Connection, settings=settings),  # type: ignore[arg-type]
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
    service: Service, http: "_HttpServer", listener: socket.socket, reloader: Reloader
) -> None:
    """Serve until a signal, drain, and finish running requests."""
    settings = service.settings
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # started with nohup
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    _open(listener, settings)
    grpc = await start_grpc(service) if settings.grpc_port else None
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
    reloading.cancel()
    if received in (signal.SIGTERM, signal.SIGHUP):
        with suppress(TimeoutError):
            await asyncio.wait_for(signals.get(), settings.drain_seconds)
    http.should_exit = True
    await asyncio.gather(http_task, *([grpc.stop(settings.grace_seconds)] if grpc else []))


def _open(listener: socket.socket, settings: Settings) -> None:
    """Listen. uvloop reports no error if another process has begun to listen meanwhile.

    Raises:
        ConfigError: the port is taken.
    """
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"--http-port {settings.http_port}: cannot listen on {settings.host} ({error}); choose "
            "another port"
        ) from error


class _HttpServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals: the server drains before it stops."""
        yield


class _KServeRest(RESTServer):
    """KServe's application with our own metadata, health checks and errors."""

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
        """Register our routes first: they override KServe's routes of the same path."""
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
        app.openapi = partial(document, bool(self._playground))  # type: ignore[method-assign]
        super()._register_endpoints(app)

    def _add_exception_handlers(self, app: FastAPI) -> None:
        super()._add_exception_handlers(app)
        app.add_exception_handler(RequestError, _refuse)
        app.add_exception_handler(HTTPException, _miss)
        app.add_exception_handler(Exception, _fail)

    def _add_middlewares(self, app: FastAPI) -> None:
        """Add no middlewares: KServe's only one logs the timing of every request."""

    async def _live(self) -> dict[str, Any]:
        return {"status": "alive", "models": self._summaries()}

    async def _ready(self) -> JSONResponse:
        ready = self._models.ready
        return JSONResponse({"ready": ready, "models": self._summaries()}, 200 if ready else 503)

    async def _metadata(self) -> dict[str, Any]:
        return {"models": [m.metadata for m in self._models.by_name.values()]}

    async def _v1_model(self, name: str) -> JSONResponse:
        model, ready = self._models.find(name), self._models.ready
        content = {"name": name, "ready": ready, "metadata": model.metadata}
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


async def _miss(request: Request, error: Exception) -> JSONResponse:
    """Answer for a path or a method that the server does not have."""
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}; /openapi.json lists all paths"
    return JSONResponse({"error": text}, error.status_code, error.headers)


async def _fail(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "internal error"}, 500)  # uvicorn logs the error
