"""Start a server.

Errors of the configuration and of bundles are found before KServe is imported, which takes seconds;
networks are tried meanwhile.
"""

import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from predictors.log_format import configure
from predictors.log_queue import open_standard_streams
from predictors.settings import Settings, unknown_variables
from predictors.sources import BundleLimits, Source, find_sources
from predictors.version import Version
from saarthi_lib.bundle.signing import public_keys
from saarthi_lib.errors import ConfigError, printable
from saarthi_lib.inference.trial import Trial
from saarthi_lib.logs import get_logger

_END_SECONDS = 2.0  # for removing downloads
logger = get_logger("predictors")


def serve(bundles: Sequence[str], **options: Any) -> None:
    """Serve bundles under their names until a signal stops the process.

    The ports open when every bundle is loaded and has answered once. A signal before that ends the
    process at once, with 128 + its number as exit code. After SIGTERM or SIGHUP the
    server is not ready but still accepts requests for a while; then it finishes running requests.
    SIGINT or a second signal skips the wait.

    Args:
        bundles: folders or URIs; see `Settings.bundles`.
        options: other fields of `Settings`; None means the environment's value or the default.

    Raises:
        BundleError: a bundle cannot be fetched, is missing a file or was changed, or its network
            fails.
        ConfigError: two bundles have one name, or a setting is out of range, or a port is taken.
    """
    open_standard_streams()
    _end_on_signals()
    settings = Settings.load({"bundles": bundles, **options})
    configure(settings.log_format)
    try:
        _serve(settings)
    finally:
        logging.shutdown()  # writes the waiting lines


def _end_on_signals() -> None:
    """End at once on a signal. Process 1 of a container ignores signals without a handler."""
    if threading.current_thread() is not threading.main_thread():
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) in usual:  # SIGHUP is ignored under nohup
            signal.signal(number, _end)


def _end(received: int, _: object) -> None:
    """Exit, by a timer where Python drops the exception: in a destructor or callback."""
    timer = threading.Timer(_END_SECONDS, os._exit, (128 + received,))
    timer.daemon = True
    timer.start()
    sys.exit(128 + received)


def _serve(settings: Settings) -> None:
    for name, near in unknown_variables().items():
        hint = f"; did you mean {near}?" if near else ""
        logger.warning("%s: there is no such setting, so it is ignored%s", printable(name), hint)
    if not settings.trusted_keys:
        logger.warning(
            "unsigned bundles are accepted, and a bundle can run code: set SAARTHI_TRUSTED_KEYS to "
            "the public keys of those who may make bundles"
        )
    public_keys(settings.trusted_keys)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # tokenizing on the workers suffices
    listener = _listen(settings.host, settings.http_port, "--http-port")
    if settings.grpc_port:
        _listen(settings.host, settings.grpc_port, "--grpc-port").close()
    versions = _load(settings)
    from predictors.application import run

    gc.collect()
    gc.freeze()  # loaded objects stay, so the collector can skip them
    run(settings, versions, listener)


def _load(settings: Settings) -> list[tuple[Source, Version]]:
    versions: dict[str, tuple[Source, Version]] = {}
    limits = BundleLimits(
        settings.fetch_seconds, settings.max_bundle_files, settings.max_bundle_bytes
    )
    # A trial runs in a process of its own: meanwhile, this one imports KServe.
    trial = Trial(settings.trial_seconds, partial(import_module, "predictors.application"))
    for source in find_sources(settings.bundles, limits):
        version = Version.load(source, settings.threads, settings.trusted_keys, trial)
        name = version.manifest.name
        if name in versions:
            raise ConfigError(
                f"{versions[name][0].uri} and {source.uri} are both named {name!r}: names must "
                f"differ on one server; serve one of the two, or rename one: NAME={source.uri}"
            )
        versions[name] = (source, version)
    return list(versions.values())


def _listen(host: str, port: int, option: str) -> socket.socket:
    """Bind a socket; clients are refused until the server listens."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, UnicodeError) as error:  # UnicodeError: a part of the name is too long
        listener.close()
        raise ConfigError(
            f"{option} {port}: cannot listen on {host} ({error}); choose another port or host"
        ) from error
    return listener
