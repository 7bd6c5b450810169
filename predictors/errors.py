"""Why a request is refused, with the status of each protocol. The messages go to the client."""

from grpc import StatusCode

from saarthi_lib.inference.batcher import DeadlineError, QueueFullError

_LONGEST, _END = 500, 150  # characters of a message, and of its end if it is cut


class RequestError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: of HTTP.
        code: of gRPC.
        outcome: its name in the metrics.
        headers: of the HTTP answer.
    """

    status = 400
    code = StatusCode.INVALID_ARGUMENT
    outcome = "invalid"

    def __init__(self, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        # What a client has sent may stand in it, and gRPC sends it as a header.
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST - _END]}…{message[-_END:]}"
        super().__init__(message)
        self.headers = headers


class NotOfferedError(RequestError):
    """Something of the protocol that this server does not do."""

    status = 501
    code = StatusCode.UNIMPLEMENTED


class InstanceError(Exception):
    """A text that the library refuses.

    Attributes:
        index: of the text in its request.
    """

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index

    def named(self, name: str) -> RequestError:
        """What the client is told, with the text called as its protocol does."""
        return RequestError(f"{name.format(self.index)} {self}")


class TooLargeError(RequestError):
    """A limit on size is passed."""

    status = 413


class TooMuchBodyError(TooLargeError):
    """The body is larger than allowed, so the rest of it is not read."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the body may have {most} bytes: split the request")


class MediaTypeError(RequestError):
    """The body's content type is not JSON."""

    status = 415


class UnauthorizedError(RequestError):
    """The token is missing or wrong."""

    status = 401
    code = StatusCode.UNAUTHENTICATED


class ForbiddenError(RequestError):
    """The request comes from where none may come from."""

    status = 403
    code = StatusCode.PERMISSION_DENIED


class UnknownModelError(RequestError):
    """There is no model of that name or version."""

    status = 404
    code = StatusCode.NOT_FOUND


class MethodError(RequestError):
    """The path takes another method."""

    status = 405


class OverloadedError(RequestError):
    """The queue is full."""

    status = 503
    code = StatusCode.RESOURCE_EXHAUSTED
    outcome = "shed"


class ReadingTooMuchError(OverloadedError):
    """Too many bodies are being read."""

    def __init__(self) -> None:
        again = ((b"retry-after", b"1"),)
        super().__init__("the server is busy: it reads all it can; try again in 1 s", again)


class ExpiredError(RequestError):
    """The deadline has passed."""

    status = 504
    code = StatusCode.DEADLINE_EXCEEDED
    outcome = "expired"


class SlowBodyError(RequestError):
    """The deadline has passed before the body was there."""

    status = 408
    outcome = "expired"

    def __init__(self) -> None:
        super().__init__("the body did not come in time", ((b"connection", b"close"),))


class ClientGoneError(RequestError):
    """The client has closed the connection, so nobody hears this."""

    status = 499
    outcome = "gone"


class InternalError(RequestError):
    """A fault of ours, whose text stays in the log."""

    status = 500
    code = StatusCode.INTERNAL
    outcome = "error"


def as_request_error(error: Exception) -> RequestError | None:
    """What a client is told of an error; None for what is no client's business."""
    match error:
        case RequestError():
            return error
        case QueueFullError():
            headers = ((b"retry-after", str(error.retry_after).encode()),)
            return OverloadedError(f"the server is busy: {error}", headers)
        case DeadlineError():
            return ExpiredError("the request's deadline has passed; allow more time or send less")
    return None
