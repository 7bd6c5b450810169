"""KServe's model server for our models, with `POST /predict` beside its own protocols.

KServe 0.21 listens on all interfaces, logs every request and returns the text of any exception;
the subclasses here change that and nothing else.
"""

import asyncio
import logging
import socket
import struct
import warnings
from collections.abc import Awaitable, Callable, Sequence
from concurrent import futures
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from grpc import StatusCode, aio
from kserve import ModelServer
from kserve.errors import InvalidInput, ModelNotFound
from kserve.metrics import PREDICT_HIST_TIME, get_labels
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    add_GRPCInferenceServiceServicer_to_server,
)
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.rest.server import RESTServer
from kserve.utils.utils import cpu_count

from predictors.model import BundleModel, read_json
from saarthi_lib import logs
from saarthi_lib.errors import ConfigError

_PREDICT_NAMES = {"texts": "text", "langs": "lang"}

logger = logs.get_logger("predictors")


def serve(
    bundles: Sequence[str],
    *,
    host: str = "127.0.0.1",
    http_port: int = 8080,
    grpc_port: int = 8081,
    threads: int = 1,
) -> None:
    """Serve bundles under their names until a signal stops the process.

    The ports open only when every bundle is loaded and has answered once.

    Args:
        bundles: bundle folders; the first answers `POST /predict` when no model is named.
        host: address to listen on; `0.0.0.0` for all interfaces.
        http_port: port of V1, V2 REST and `/predict`.
        grpc_port: port of V2 gRPC.
        threads: threads that one prediction may use.

    Raises:
        BundleError: a bundle is missing a file or was changed.
        ConfigError: two bundles have one name, or an option is out of range, or a port is taken.
    """
    _configure_logging()
    if threads < 1:
        raise ConfigError(f"--threads {threads}: must be at least 1")
    for option, port in (("--http-port", http_port), ("--grpc-port", grpc_port)):
        _check_port(host, port, option)
    with futures.ThreadPoolExecutor(max(1, cpu_count() // threads), "predict") as executor:
        models = [BundleModel(bundle, executor, threads) for bundle in bundles]
        _check_names(bundles, models)
        for model in models:
            model.load()
            logger.info(
                "serving %s, version %s (%s): http://%s:%d, grpc://%s:%d",
                *(model.name, model.manifest.version, model.manifest.task),
                *(host, http_port, host, grpc_port),
            )
        _BundleServer(host, http_port, grpc_port).start(models)


class _BundleServer(ModelServer):
    def __init__(self, host: str, http_port: int, grpc_port: int) -> None:
        super().__init__(
            http_port=http_port, grpc_port=grpc_port, workers=1, enable_latency_logging=False
        )
        self._host = host
        self.dataplane = _BundleDataPlane(model_registry=self.registered_models)

    def start(self, models: list[BundleModel]) -> None:
        self._register_and_check_atleast_one_model_is_ready(models)
        parts = (self.dataplane, self.model_repository_extension)
        rest_server = _RestServer(
            "kserve.model_server:app", *parts, self.http_port, grace_period=self.grace_period
        )
        rest_server.config.host = self._host
        rest_server.config.access_log = False
        self._grpc_server = _GrpcServer(self._host, self.grpc_port, *parts, self.grace_period)
        self.servers += [rest_server.start(), self._grpc_server.start(self.max_threads)]
        self.register_signal_handler()
        asyncio.run(self._serve())


class _BundleDataPlane(DataPlane):
    def decode(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().decode(*args, **kwargs)
        except InvalidInput:
            raise
        except (KeyError, TypeError, ValueError, struct.error) as error:
            raise InvalidInput("the request is not a valid V2 inference request") from error

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        metadata: dict[str, Any] = await super().model_metadata(model_name)
        manifest = self.get_model_from_registry(model_name).manifest
        return metadata | {
            "versions": [manifest.version],
            "platform": f"saarthi_{manifest.task}_{manifest.runtime}",
        }


class _RestServer(RESTServer):
    def _register_endpoints(self, app: FastAPI) -> None:
        super()._register_endpoints(app)
        app.add_api_route("/predict", self._predict, methods=["POST"], response_model=None)
        app.add_api_route("/predict/{name}", self._predict, methods=["POST"], response_model=None)
        app.add_api_route("/metadata", self._metadata, methods=["GET"])

    def _add_exception_handlers(self, app: FastAPI) -> None:
        super()._add_exception_handlers(app)
        app.add_exception_handler(InvalidInput, _error_response(400))
        app.add_exception_handler(ModelNotFound, _error_response(404))
        app.add_exception_handler(Exception, _internal_error)

    def _add_middlewares(self, app: FastAPI) -> None:
        """None: KServe's only one logs the timing of every request."""

    async def _predict(self, request: Request, name: str | None = None) -> Response:
        """Answer `{"text": …}`, with `lang`, `top_k` and `model` as wanted."""
        body = read_json(await request.body())
        if "text" not in body:
            raise InvalidInput('the body must be an object with "text"')
        first = next(iter(self.dataplane.model_registry.get_models()), None)
        model = self.dataplane.get_model_from_registry(str(name or body.get("model") or first))
        with PREDICT_HIST_TIME.labels(**get_labels(model.name)).time():
            [answer] = await model.answer(
                [body["text"]], [body.get("lang")], body.get("top_k", 1), _PREDICT_NAMES
            )
        return Response(orjson.dumps(answer), media_type="application/json")

    async def _metadata(self) -> dict[str, Any]:
        """The manifest of every bundle served."""
        models = self.dataplane.model_registry.get_models().values()
        return {"models": [model.manifest.to_dict() for model in models]}


class _GrpcServer(GRPCServer):
    def __init__(
        self, host: str, port: int, data_plane: DataPlane, repository: Any, grace_period: int
    ) -> None:
        super().__init__(port, data_plane, repository, kwargs={}, grace_period=grace_period)
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def start(self, max_workers: int) -> None:
        self._server = aio.server(
            futures.ThreadPoolExecutor(max_workers),
            interceptors=(_GrpcErrors(),),
            options=[("grpc.so_reuseport", 0)],  # a second server on the port must fail, not share
        )
        servicer = InferenceServicer(self._data_plane, self._model_repository_extension)
        add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        self._server.add_insecure_port(self._address)
        await self._server.start()
        await self._server.wait_for_termination()


class _GrpcErrors(ExceptionToStatusInterceptor):
    async def handle_exception(
        self, ex: Exception, request_or_iterator: Any, context: Any, method_name: str
    ) -> None:
        if isinstance(ex, InvalidInput):  # the caller's mistake is not worth a traceback
            await context.abort(StatusCode.INVALID_ARGUMENT, str(ex))
        await super().handle_exception(ex, request_or_iterator, context, method_name)


def _error_response(status: int) -> Callable[[Request, Exception], Awaitable[JSONResponse]]:
    async def handle(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status)

    return handle


async def _internal_error(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "internal error"}, 500)  # uvicorn logs the error itself


def _configure_logging() -> None:
    """Our own lines in full; of KServe's and uvicorn's only warnings, in the same form."""
    logs.configure()
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's V1 uses it
    for name in ("kserve", "uvicorn"):
        library = logging.getLogger(name)
        library.handlers = list(logging.getLogger(logs.ROOT).handlers)
        library.setLevel(logging.WARNING)
        library.propagate = False


def _check_port(host: str, port: int, option: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"{option} {port}: cannot listen on {host} ({error}); choose another port or host"
            ) from error


def _check_names(bundles: Sequence[str], models: Sequence[BundleModel]) -> None:
    folders: dict[str, str] = {}
    for folder, model in zip(bundles, models, strict=True):
        if model.name in folders:
            raise ConfigError(
                f"{folders[model.name]} and {folder} are both named {model.name!r}: a server needs "
                "bundles of different names"
            )
        folders[model.name] = folder
