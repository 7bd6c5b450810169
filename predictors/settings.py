"""The server's settings; each one is an argument and an environment variable."""

import argparse
import difflib
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from saarthi_lib.bundle.limits import ALL_BYTES, FILES
from saarthi_lib.errors import ConfigError, printable

PREFIX = "SAARTHI_"
_HOST = re.compile(r"[0-9A-Za-z_.:%-]{1,253}")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?")
# Empty variables are left out, like missing ones. Here they are errors: a protection would be lost.
_PROTECTIONS = ("trusted_keys", "repository_token", "playground_token")
# Variables of other parts of Saarthi.
_OTHERS = (
    "checkpoints",
    "cache",
    "error_file",
    "kfp_cookie",
    "kfp_token",
    "model_registry_token",
    "record_file",
    "run_id",
    "runner_pid",
    "signing_password",
    "source_revision",
    "train_image",
    "webhook",
)
# Kubernetes sets these for a service whose name begins with "saarthi".
_OF_SERVICES = re.compile(
    r"SAARTHI_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def cpu_limit() -> float:
    """Number of CPUs for this process, by affinity and by the container's limit."""
    cpus = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else min(cpus, int(quota) / int(period))


def _workers() -> int:
    # One of several CPUs stays free for the event loop.
    return max(1, math.floor(cpu_limit()) - 1)


class Settings(BaseModel):
    """Settings of the server. The option `--http-port 80` overrides `SAARTHI_HTTP_PORT=80`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    bundles: tuple[str, ...] = Field(min_length=1)
    """bundles to serve: folders, folders of bundles, or addresses such as s3://bucket/folder;
    NAME=BUNDLE serves a bundle under another name; the first bundle answers requests of POST
    /predict without a model"""
    trusted_keys: tuple[Path, ...] = ()
    """PEM files of Ed25519 public keys; if given, one of them must have signed each bundle; if not,
    unsigned bundles are served with a warning"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 is all interfaces"""
    http_port: int = Field(8080, ge=1, le=65535)
    """port of V1, V2 and /predict"""
    grpc_port: int = Field(8081, ge=0, le=65535)
    """port of V2 over gRPC; 0: no gRPC"""
    threads: int = Field(1, ge=1, le=256)
    """threads for one prediction"""
    workers: int = Field(default_factory=_workers, ge=1, le=1024)
    """predictions that run at once; default: available CPUs minus one, at least 1"""
    max_batch: int = Field(32, ge=1, le=10_000)
    """maximum texts in a batch"""
    max_queue: int = Field(2000, ge=1, le=1_000_000)
    """maximum waiting texts of a model; further requests are refused with 503"""
    max_instances: int = Field(1000, ge=1, le=100_000)
    """maximum texts in a request"""
    max_text_characters: int = Field(10_000, ge=1, le=1_000_000)
    """maximum characters in a text"""
    max_body_bytes: int = Field(4 << 20, ge=1, le=1 << 30)
    """maximum bytes of a request's body, also of a decompressed one"""
    max_reading_bytes: int = Field(64 << 20, ge=1, le=1 << 36)
    """maximum bytes of all bodies that are being read; further requests are refused with 503"""
    max_connections: int = Field(1000, ge=1, le=100_000)
    """maximum HTTP connections; a further one replaces an idle one, or is refused with 503"""
    max_calls: int = Field(256, ge=1, le=100_000)
    """maximum gRPC calls at once; further calls are refused as unavailable"""
    deadline_seconds: float = Field(10.0, ge=0.001, le=3600)
    """maximum seconds for a request; a client can set less"""
    drain_seconds: float = Field(5.0, ge=0, le=3600)
    """seconds after SIGTERM in which the server is not ready but still accepts requests"""
    grace_seconds: float = Field(30.0, ge=0, le=3600)
    """maximum seconds after that for running requests to end"""
    keep_alive_seconds: int = Field(75, ge=1, le=86_400)
    """seconds until an idle connection is closed; set more than a proxy in front of the server"""
    reload_seconds: float = Field(10.0, ge=0, le=86_400)
    """seconds between checks for a new version at a bundle's source, at least 0.01; 0: never"""
    fetch_seconds: float = Field(600.0, ge=0.1, le=86_400)
    """maximum seconds for fetching a bundle; a twentieth of it for its manifest alone"""
    max_bundle_files: int = Field(FILES, ge=5, le=FILES)
    """maximum files of a bundle; a larger bundle is refused before its files are fetched"""
    max_bundle_bytes: int = Field(ALL_BYTES, ge=1, le=ALL_BYTES)
    """maximum bytes of all files of a bundle, as its manifest lists them"""
    trial_seconds: float = Field(30.0, ge=0.1, le=3600)
    """maximum seconds for the trial of a new version's network in a process of its own"""
    repository_api: bool = False
    """whether POST /v2/repository/models/NAME/load checks for a new version at once; needs a token
    on hosts other than loopback"""
    repository_token: SecretStr = SecretStr("")
    """password or bearer token for the repository API; set it in the environment, because all
    processes can see arguments"""
    max_labels: int = Field(100, ge=1, le=100_000)
    """number of labels per model that metrics count by name; the rest count as 'other'"""
    playground: bool = False
    """whether the server has /playground, a page for trying the models; needs a token on hosts
    other than loopback"""
    playground_token: SecretStr = SecretStr("")
    """password for the playground, with any user name; set it in the environment"""
    threshold: float | None = Field(None, ge=0, le=1)
    """lowest confidence for an answer, for all models and languages; default: the bundles' own"""
    min_threshold: float = Field(0.0, ge=0, le=1)
    """lowest threshold that a request can set"""
    max_threshold: float = Field(1.0, ge=0, le=1)
    """highest threshold that a request can set"""
    cors_origins: tuple[str, ...] = ()
    """origins whose pages may call the server, such as https://bot.example; '*': all; the
    playground and the repository API stay closed to them"""
    access_log: bool = False
    """whether each request is logged"""
    log_texts: bool = False
    """whether the access log includes the texts of requests"""
    log_format: Literal["auto", "json", "text"] = "auto"
    """format of the log; auto: text on a terminal and JSON elsewhere"""

    @field_validator("bundles", "trusted_keys", mode="before")
    @classmethod
    def _are_paths(cls, value: Any) -> Any:
        given = value if isinstance(value, list | tuple) else [value]
        if value != () and not all(str(each).strip() for each in given):
            raise ValueError("an empty path is given: give a path, or leave the setting out")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    "must be '*' or origins as browsers send them: scheme, host and port without a "
                    "path, in lower case, such as https://bot.example"
                )
        return value

    @field_validator("host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        if not _HOST.fullmatch(value):
            raise ValueError("must be an IP address or the name of a host")
        return value

    @field_validator("reload_seconds")
    @classmethod
    def _is_never_or_rare(cls, value: float) -> float:
        if 0 < value < 0.01:
            raise ValueError("must be 0 or at least 0.01")
        return value

    @field_validator("repository_token", "playground_token")
    @classmethod
    def _is_token(cls, value: SecretStr) -> SecretStr:
        token = value.get_secret_value()
        if not token.isprintable() or token != token.strip() or not 0 < len(token) <= 1024:
            raise ValueError(
                "must have 1 to 1024 characters, without line breaks, other control characters or "
                "spaces around it"
            )
        return value

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.max_instances > self.max_queue:
            raise ValueError(
                f"max_instances ({self.max_instances}) must not be more than max_queue "
                f"({self.max_queue})"
            )
        if self.http_port == self.grpc_port:
            raise ValueError(
                f"http_port and grpc_port must differ; both are {self.http_port} (the protocols "
                "cannot share a port)"
            )
        if self.max_body_bytes > self.max_reading_bytes:
            raise ValueError(
                f"max_body_bytes ({self.max_body_bytes}) must not be more than max_reading_bytes "
                f"({self.max_reading_bytes})"
            )
        if self.min_threshold > self.max_threshold:
            raise ValueError(
                f"min_threshold ({self.min_threshold}) must not be more than max_threshold "
                f"({self.max_threshold})"
            )
        for name, what, token in (
            ("PLAYGROUND_TOKEN", "a playground", self.playground and self.playground_token),
            ("REPOSITORY_TOKEN", "a repository API", self.repository_api and self.repository_token),
        ):
            wanted = isinstance(token, SecretStr)
            if wanted and not token and self.host not in LOOPBACK:
                raise ValueError(
                    f"{what} on {self.host} needs a token: set {PREFIX}{name}, or listen on "
                    "127.0.0.1"
                )
        return self

    @classmethod
    def load(
        cls, arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ
    ) -> "Settings":
        """Combine arguments that are not None, the environment, and defaults, in this order.

        Raises:
            ConfigError: a setting is unknown or out of range, or a variable without a meaning looks
                like one that protects the server; the message names it.
        """
        for name, near in unknown_variables(environment).items():
            if near.removeprefix(PREFIX).lower() in _PROTECTIONS:
                raise ConfigError(f"{name}: there is no such setting; did you mean {near}?")
        given: dict[str, Any] = {
            name: value
            for name in cls.model_fields
            if (value := environment.get(PREFIX + name.upper())) is not None
            and (value or name in _PROTECTIONS)
        }
        given |= {name: value for name, value in arguments.items() if value not in (None, [], ())}
        for name in ("bundles", "trusted_keys", "cors_origins"):
            if isinstance(given.get(name), str):
                given[name] = given[name].split(",")
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigError("; ".join(map(_explain, error.errors()))) from error


def unknown_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables that look like settings but have no meaning, with the nearest one that has ("")."""
    known = [PREFIX + name.upper() for name in (*Settings.model_fields, *_OTHERS)]
    found: dict[str, str] = {}
    for name, value in environment.items():
        mine = name.upper().startswith(PREFIX) and name not in known
        if mine and not _OF_SERVICES.fullmatch(name) and not _SERVICE_ADDRESS.match(value):
            near = difflib.get_close_matches(name.upper()[:100], known, n=1, cutoff=0.8)
            found[name] = "".join(near)
    return found


def parse(arguments: Sequence[str] | None, program: str, about: str | None) -> dict[str, Any]:
    """Parse the arguments of a command that serves bundles; each setting is an option.

    Args:
        arguments: the arguments; None means those of this process.
        program: name of the command.
        about: description for the help.

    Returns:
        Arguments of `server.serve`; None where an option is not given.
    """
    parser = _Parser(
        program,
        usage="%(prog)s [OPTIONS] BUNDLE…",
        description=about,
        epilog=f"Each option is an environment variable too: {PREFIX}HTTP_PORT for --http-port.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, field in Settings.model_fields.items():
        text = " ".join((field.description or "").split())
        if name == "bundles":
            parser.add_argument(name, nargs="*", metavar="BUNDLE", help=text)
            continue
        option = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(
                option, action=argparse.BooleanOptionalAction, default=None, help=text
            )
        else:
            default = f" ({field.default})" if field.default and not field.default_factory else ""
            parser.add_argument(option, help=text + default)
    return vars(parser.parse_intermixed_args(arguments))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse arguments, without control characters of their own."""
        super().error(printable(message))


def _explain(error: Any) -> str:
    if not error["loc"]:
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if error["type"] in ("missing", "too_short") and name == "bundles":
        return f"no bundle is given: give at least one, or set {PREFIX}BUNDLES"
    where = "BUNDLE" if name == "bundles" else f"--{name.replace('_', '-')}"
    where += f" ({PREFIX}{name.upper()})"
    if name.endswith("_token"):
        return f"{where}: {message}"
    return f"{where}: {message}, not {repr(error['input'])[:200]}"
