"""Who may call what is not for everybody: the playground, and the repository's API."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr

from predictors.errors import ForbiddenError, UnauthorizedError
from predictors.settings import LOOPBACK


class Gate:
    """Lets in who knows the token, or where there is none, who comes by a loopback name.

    A foreign site that has its own name point here (DNS rebinding) is refused, and so are calls
    that a page of another origin sends.

    Args:
        what: it is for, with its article.
        token: that has to be given, as a bearer's or as the password of any user; empty for none.
    """

    def __init__(self, what: str, token: SecretStr) -> None:
        self._what = what
        self._token = token.get_secret_value().encode()

    def admit(self, headers: Mapping[str, str]) -> None:
        """Let a request in, by its headers.

        Raises:
            UnauthorizedError: the token is missing or wrong.
            ForbiddenError: the request is another site's.
        """
        host = headers.get("host", "")
        if self._token:
            self.check_token(headers.get("authorization"))
        elif _host_name(f"//{host}") not in LOOPBACK:
            raise ForbiddenError(
                f"without a token {self._what} answers under {', '.join(LOOPBACK)}, not "
                f"{host[:128]!r}"
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise ForbiddenError(f"{self._what} answers its own page, not other sites'")

    def check_token(self, authorization: str | None) -> None:
        """Let in who gives the token, if there is one.

        Raises:
            UnauthorizedError: it is missing or wrong.
        """
        if self._token and not hmac.compare_digest(_given(authorization), self._token):
            challenge = b'Basic realm="Saarthi", charset="UTF-8"'
            raise UnauthorizedError(
                f"give the token of {self._what} as the password",
                ((b"www-authenticate", challenge),),
            )


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # a bracket that is left open
        return None


def _given(authorization: str | None) -> bytes:
    """The bearer's token, or the password of HTTP's basic authentication; empty without either."""
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(given, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
