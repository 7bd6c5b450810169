"""V2 over gRPC: KServe's service with our codecs, limits and status codes."""

from typing import Any

from google.protobuf.message import DecodeError
from grpc import StatusCode, aio, unary_unary_rpc_method_handler
from kserve import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    add_GRPCInferenceServiceServicer_to_server,
)
from kserve.protocol.grpc.servicer import InferenceServicer

from predictors import v2
from predictors.errors import RequestError
from predictors.exchange import Exchange
from predictors.models import v2_metadata
from predictors.request_log import request_id, traceparent
from predictors.service import Service
from saarthi_lib.errors import ConfigError

_FRAME_BYTES = 1 << 16  # of a message, in addition to its texts


class Servicer(InferenceServicer):
    """Answers the calls of V2's gRPC service.

    Args:
        service: shared parts of the server.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(DataPlane(ModelRepository()), None)
        self._service = service
        self._models = service.models

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Predict."""
        metadata = dict(context.invocation_metadata())
        identifier = request_id(metadata.get("x-request-id") or request.id)
        trace = traceparent(metadata.get("traceparent"))
        exchange = Exchange("grpc", identifier, trace)
        refusal = response = None
        try:
            response = await self._answer(exchange, request, context.time_remaining())
        except Exception as error:
            refusal = self._service.refusal(exchange, error)
        self._service.note(exchange, refusal.outcome if refusal else "ok")
        if "x-request-id" in metadata or trace:
            own = {"x-request-id": identifier, "traceparent": trace}
            context.set_trailing_metadata([(name, own[name]) for name in own if own[name]])
        if refusal:
            await context.abort(refusal.code, str(refusal))
        return response

    async def _answer(self, exchange: Exchange, request: Any, left: float | None) -> Any:
        seconds = self._service.settings.deadline_seconds
        deadline = exchange.started + (seconds if left is None else min(seconds, left))
        exchange.model = self._models.find(request.model_name, request.model_version)
        read = v2.read_grpc(request, self._service.limits)
        exchange.rows = read.rows
        answers, manifest = await exchange.model.answer(read.rows, deadline)
        return v2.write_grpc(read, answers, manifest, exchange.id)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether the server accepts requests."""
        return pb.ServerReadyResponse(ready=self._models.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Whether the server accepts requests for a model."""
        await self._find(request.name, request.version, context)
        return pb.ModelReadyResponse(ready=self._models.ready)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Inputs and outputs of a model."""
        metadata = v2_metadata(await self._find(request.name, request.version, context))
        del metadata["metadata"]  # not a field of the message
        return pb.ModelMetadataResponse(**metadata)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Look for a new version of a model."""
        metadata = dict(context.invocation_metadata())
        try:
            # gRPC restricts other metadata to ASCII.
            given = metadata.get("authorization-bin") or metadata.get("authorization", "").encode()
            self._models.gate.check_token(given)
            await self._models.load(request.model_name)
        except RequestError as error:
            await context.abort(error.code, str(error))
        return pb.RepositoryModelLoadResponse(model_name=request.model_name, isLoaded=True)

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse: a server serves its bundles until it stops."""
        await context.abort(StatusCode.UNIMPLEMENTED, "models cannot be unloaded")

    async def _find(self, name: str, version: str, context: Any) -> Any:
        try:
            return self._models.find(name, version)
        except RequestError as error:
            await context.abort(error.code, str(error))


class _Unreadable(aio.ServerInterceptor):
    """Refuses unreadable messages with INVALID_ARGUMENT.

    gRPC for Python answers UNKNOWN, like an error of the server, and logs a traceback.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Any] = {}  # by method

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Add the check to the method's handler."""
        if details.method not in self._handlers:
            handler = await continuation(details)
            if handler is None:
                return None
            self._handlers[details.method] = self._checked(handler)
        return self._handlers[details.method]

    def _checked(self, handler: Any) -> Any:
        def read(content: bytes) -> Any:
            try:
                return handler.request_deserializer(content)
            except DecodeError:
                return None

        async def answer(request: Any, context: Any) -> Any:
            if request is None:
                await context.abort(
                    StatusCode.INVALID_ARGUMENT, "the message is not a V2 message: send protobuf"
                )
            return await handler.unary_unary(request, context)

        return unary_unary_rpc_method_handler(answer, read, handler.response_serializer)


async def start_grpc(service: Service) -> aio.Server:
    """Start the gRPC server on the running loop.

    A call without a message ends only with its connection's maximum age: gRPC for Python offers no
    earlier limit.

    Raises:
        ConfigError: the port is taken.
    """
    settings = service.settings
    host, port = settings.host, settings.grpc_port
    idle, grace = 1000 * settings.keep_alive_seconds, int(1000 * settings.deadline_seconds)
    server = aio.server(
        interceptors=[_Unreadable()],
        maximum_concurrent_rpcs=settings.max_calls,
        options=[
            ("grpc.so_reuseport", 0),  # a second server on the port must fail
            ("grpc.max_receive_message_length", settings.max_body_bytes + _FRAME_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", settings.max_calls),
            ("grpc.server_handshake_timeout_ms", grace),
            ("grpc.keepalive_time_ms", idle),  # detects dead clients
            ("grpc.keepalive_timeout_ms", grace),
            ("grpc.max_connection_idle_ms", 4 * idle),
            ("grpc.max_connection_age_ms", 4 * idle),
            ("grpc.max_connection_age_grace_ms", grace),
        ],
    )
    add_GRPCInferenceServiceServicer_to_server(Servicer(service), server)
    try:
        server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise ConfigError(f"--grpc-port {port}: cannot listen on {host}; choose another") from error
    await server.start()
    return server
