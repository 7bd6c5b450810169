"""Plain HTTP requests that do not pass the API server."""

import json
import urllib.error
import urllib.request
from typing import Any

from saarthi_lib.errors import SaarthiError

SECONDS = 30


def ask(url: str, body: dict[str, Any] | None = None, host: str | None = None) -> str:
    """GET, or POST a body as JSON.

    Args:
        url: URL of the request.
        body: body of a POST; None sends a GET.
        host: Host header, for a gateway whose URL contains an IP address.

    Raises:
        SaarthiError: no answer, or not status 200.
    """
    if not url.startswith(("http://", "https://")):
        raise SaarthiError(f"{url}: must begin with http:// or https://")
    headers = {"Content-Type": "application/json"} | ({"Host": host} if host else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")[:300]
        raise SaarthiError(f"{url}: status {error.code}: {said or error.reason}") from error
    except (OSError, ValueError) as error:
        raise SaarthiError(f"{url}: no answer: {error}") from error
