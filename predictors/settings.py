"""The server's settings: each can be given as an argument or as an environment variable."""

import argparse
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from saarthi_lib.errors import ConfigError

PREFIX = "SAARTHI_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def cpu_limit() -> float:
    """CPUs that this process may use: by affinity and by the container's limit."""
    cpus = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else min(cpus, int(quota) / int(period))


def _workers() -> int:
    # One CPU's worth of time stays for the event loop where there is more than one.
    return max(1, math.floor(cpu_limit()) - 1)


class Settings(BaseModel):
    """What can be set. `SAARTHI_HTTP_PORT=80` says the same as `--http-port 80`, which wins."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundles: tuple[str, ...] = Field(min_length=1)
    """bundles to serve: folders (or folders of bundles) or URIs such as gs://bucket/folder, or
    NAME=BUNDLE for another name than the bundle's; the first answers POST /predict where no model
    is named"""
    trusted_keys: tuple[Path, ...] = ()
    """PEM files of Ed25519 public keys; with any, only bundles that one of them has signed are
    served"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 is all interfaces"""
    http_port: int = Field(8080, ge=1, le=65535)
    """port of V1, V2 and /predict"""
    grpc_port: int = Field(8081, ge=0, le=65535)
    """port of V2 over gRPC; 0 is none"""
    threads: int = Field(1, ge=1)
    """threads that one prediction may use"""
    workers: int = Field(default_factory=_workers, ge=1)
    """predictions that run at once; by default one less than the CPUs allowed, at least 1"""
    max_batch: int = Field(32, ge=1)
    """most texts that are predicted together"""
    max_queue: int = Field(2000, ge=1)
    """most texts of a model that may wait; beyond it requests are refused with 503"""
    max_instances: int = Field(1000, ge=1)
    """most texts in one request"""
    max_text_characters: int = Field(10_000, ge=1)
    """most characters in one text"""
    max_body_bytes: int = Field(4 << 20, ge=1)
    """most bytes in a request's body"""
    max_reading_bytes: int = Field(64 << 20, ge=1)
    """most bytes of bodies that are being read at once; beyond it requests are refused with 503"""
    max_connections: int = Field(1000, ge=1)
    """most HTTP connections; beyond it an idle one is closed for the newest, or that is refused
    with 503"""
    max_calls: int = Field(256, ge=1)
    """most gRPC calls at once; beyond it they are refused as unavailable"""
    deadline_seconds: float = Field(10.0, gt=0)
    """most seconds that a request may take; a client may ask for less"""
    drain_seconds: float = Field(5.0, ge=0)
    """seconds after SIGTERM in which requests are still taken while readiness says no"""
    grace_seconds: float = Field(30.0, ge=0)
    """most seconds, after that, that requests in flight may take to end"""
    keep_alive_seconds: int = Field(75, ge=1)
    """seconds after which an idle connection is closed; more than any proxy's in front"""
    reload_seconds: float = Field(10.0, ge=0)
    """seconds between looks for a new version of a bundle where it came from; 0 is never"""
    fetch_seconds: float = Field(600.0, gt=0)
    """most seconds that storage may take for a bundle; for the look at its manifest a twentieth"""
    repository_api: bool = False
    """whether POST /v2/repository/models/NAME/load looks for a new version at once; on a host that
    is not of the loopback it needs a token"""
    repository_token: SecretStr = SecretStr("")
    """what a caller of that has to give as the password or as a bearer's token; set it in the
    environment, for arguments are seen by all processes"""
    max_labels: int = Field(100, ge=1)
    """labels of a model that are counted by name in the metrics; the rest count as 'other'"""
    playground: bool = False
    """whether /playground is a page on which people try the models; on a host that is not of the
    loopback it needs a token"""
    playground_token: SecretStr = SecretStr("")
    """what a browser has to give as the password, with any user name, to see the playground; set
    it in the environment"""
    access_log: bool = False
    """whether each request is logged"""
    log_texts: bool = False
    """whether the texts of requests stand in the access log"""
    log_format: Literal["auto", "json", "text"] = "auto"
    """form of the log's lines; auto is text on a terminal and JSON elsewhere"""

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.max_instances > self.max_queue:
            raise ValueError(
                f"max_instances ({self.max_instances}) must not be more than max_queue "
                f"({self.max_queue})"
            )
        if self.max_body_bytes > self.max_reading_bytes:
            raise ValueError(
                f"max_body_bytes ({self.max_body_bytes}) must not be more than max_reading_bytes "
                f"({self.max_reading_bytes})"
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
        """Put arguments (those that are not None) over the environment over the defaults.

        Raises:
            ConfigError: a setting is unknown or out of range; the message names it.
        """
        given: dict[str, Any] = {
            name: environment[PREFIX + name.upper()]
            for name in cls.model_fields
            if environment.get(PREFIX + name.upper())
        }
        given |= {name: value for name, value in arguments.items() if value not in (None, [], ())}
        for name in ("bundles", "trusted_keys"):
            if isinstance(given.get(name), str):
                given[name] = given[name].split(",")
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigError("; ".join(map(_explain, error.errors()))) from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting, and the bundles."""
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
            default = "" if field.default_factory else f" ({field.default})"
            parser.add_argument(option, help=text + default)


def _explain(error: Any) -> str:
    if not error["loc"]:
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    message = error["msg"][0].lower() + error["msg"][1:]
    if name == "bundles":
        return f"no bundle is given: name at least one, or set {PREFIX}BUNDLES"
    if name.endswith("_token"):
        return f"--{name.replace('_', '-')} ({PREFIX}{name.upper()}): {message}"
    return f"--{name.replace('_', '-')} ({PREFIX}{name.upper()}): {message}, not {error['input']!r}"
