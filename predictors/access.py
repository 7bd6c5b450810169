"""Access to the playground and to the repository API."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr

from predictors.errors import ForbiddenError, UnauthorizedError
from predictors.settings import LOOPBACK


class Gate:
    """Checks the token of a request; without a token, accepts only loopback host names.

    This refuses foreign sites whose name points to this host (DNS rebinding). Calls from pages of
    other origins are refused too.

    Args:
        what: protected part with its article, for errors.
        token: required token, sent as bearer token or as password of any user; empty: none.
    """

    def __init__(self, what: str, token: SecretStr) -> None:
        self._what = what
        self._token = token.get_secret_value().encode()

    def admit(self, headers: Mapping[str, str]) -> None:
        """Check a request by its headers.

        Raises:
            UnauthorizedError: the token is missing or wrong.
            ForbiddenError: the request comes from another site.
        """
        host = headers.get("host", "")
        if self._token:
            # Starlette decodes all headers as Latin-1.
            self.check_token(headers.get("authorization", "").encode("latin-1"))
        elif _host_name(f"//{host}") not in LOOPBACK:
            raise ForbiddenError(
                f"without a token {self._what} answers only under {', '.join(LOOPBACK)}, not "
                f"{host[:128]!r}"
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise ForbiddenError(f"{self._what} answers its own page, not other sites")

    def check_token(self, authorization: bytes) -> None:
        """Check the token, if one is required.

        Args:
            authorization: bytes of the header; empty if it is missing.

        Raises:
            UnauthorizedError: the token is missing or wrong.
        """
        if self._token and not hmac.compare_digest(_sent_token(authorization), self._token):
            challenge = b'Basic realm="Saarthi", charset="UTF-8"'
            raise UnauthorizedError(
                f"give the token of {self._what} as the password",
                ((b"www-authenticate", challenge),),
            )


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # an unclosed bracket
        return None


def _sent_token(authorization: bytes) -> bytes:
    """The bearer token, or the password of basic authentication; empty without either."""
    scheme, _, given = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return given.strip()
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(given, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
