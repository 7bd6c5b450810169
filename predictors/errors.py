"""Errors of requests with the status codes of each protocol; clients see the messages."""

from grpc import StatusCode

from saarthi_lib.inference.batcher import DeadlineError, QueueFullError

_LONGEST, _END = 500, 150  # maximum characters of a message, and of the end of a cut one


class RequestError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: HTTP status.
        code: gRPC status.
        outcome: name in the metrics.
        headers: additional headers of the HTTP response.
    """

    status = 400
    code = StatusCode.INVALID_ARGUMENT
    outcome = "invalid"

    def __init__(self, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        # The message may quote the request, and gRPC sends it as a header.
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST - _END]}…{message[-_END:]}"
        super().__init__(message)
        self.headers = headers


class NotOfferedError(RequestError):
    """The server does not support this part of the protocol."""

    status = 501
    code = StatusCode.UNIMPLEMENTED


class InstanceError(Exception):
    """A text that the library refuses.

    Attributes:
        index: index of the text in its request.
    """

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index

    def named(self, name: str) -> RequestError:
        """The error for the client; `name` is the protocol's name of a text."""
        return RequestError(f"{name.format(self.index)} {self}")


class TooLargeError(RequestError):
    """The request exceeds a limit of size."""

    status = 413


class TooMuchBodyError(TooLargeError):
    """The body is too large; the rest of it is not read."""

    def __init__(self, most: int, when: str = "") -> None:
        super().__init__(f"the body may have {most} bytes{when}: split the request")


class MediaTypeError(RequestError):
    """The body's content type is not JSON, or its encoding is not supported."""

    status = 415


class UnauthorizedError(RequestError):
    """The token is missing or wrong."""

    status = 401
    code = StatusCode.UNAUTHENTICATED


class ForbiddenError(RequestError):
    """The request comes from a forbidden site or host name."""

    status = 403
    code = StatusCode.PERMISSION_DENIED


class UnknownModelError(RequestError):
    """The model or its version is not served."""

    status = 404
    code = StatusCode.NOT_FOUND


class MethodError(RequestError):
    """The path needs another method."""

    status = 405


class OverloadedError(RequestError):
    """The queue is full; retry later."""

    status = 503
    code = StatusCode.RESOURCE_EXHAUSTED
    outcome = "shed"


class ReadingTooMuchError(OverloadedError):
    """Too many bodies are being read."""

    def __init__(self) -> None:
        again = ((b"retry-after", b"1"),)
        super().__init__(
            "the server is busy: too many bodies are being read; try again in 1 s", again
        )


class ExpiredError(RequestError):
    """The deadline has passed."""

    status = 504
    code = StatusCode.DEADLINE_EXCEEDED
    outcome = "expired"


class SlowBodyError(RequestError):
    """The deadline has passed before the body was complete."""

    status = 408
    outcome = "expired"

    def __init__(self) -> None:
        super().__init__("the body did not arrive in time", ((b"connection", b"close"),))


class ClientGoneError(RequestError):
    """The client has closed the connection, so the error is only counted."""

    status = 499
    outcome = "gone"


class InternalError(RequestError):
    """An internal error; its text stays in the log."""

    status = 500
    code = StatusCode.INTERNAL
    outcome = "error"


def as_request_error(error: Exception) -> RequestError | None:
    """Convert an error into the response to the client; None for internal errors."""
    match error:
        case RequestError():
            return error
        case QueueFullError():
            headers = ((b"retry-after", str(error.retry_after).encode()),)
            return OverloadedError(f"the server is busy: {error}", headers)
        case DeadlineError():
            return ExpiredError("the request's deadline has passed; allow more time or send less")
    return None
