"""Hot reload: a new version replaces the old one after it is verified, tried and loaded."""

import asyncio
import gc
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Lock, Thread
from typing import TypeVar

from predictors.model import BundleModel
from predictors.settings import Settings
from predictors.version import FailedVersionError, Version
from saarthi_lib.errors import SaarthiError
from saarthi_lib.inference.trial import Trial
from saarthi_lib.logs import get_logger

logger = get_logger("predictors")
Result = TypeVar("Result")


class Reloader:
    """Looks for new versions of models at their sources.

    Args:
        models: models by name.
        settings: the server's settings.
    """

    def __init__(self, models: Mapping[str, BundleModel], settings: Settings) -> None:
        self._models = models
        self._seconds = settings.reload_seconds
        self._load = partial(
            Version.load,
            threads=settings.threads,
            trusted_keys=settings.trusted_keys,
            trial=Trial(settings.trial_seconds),
        )
        self._refused: dict[str, str] = {}
        self._failed: dict[str, str] = {}  # digest of the last version whose network fails
        self._busy = asyncio.Lock()
        self._one = Lock()

    async def run(self) -> None:
        """Look again and again, never if the interval is 0; errors are logged."""
        while self._seconds:
            await asyncio.sleep(self._seconds)
            for model in self._models.values():
                with suppress(Exception):  # logged by `look`
                    await self.look(model)

    async def look(self, model: BundleModel, *, retry: bool = False) -> bool:
        """Replace a model's version if its source has a new one.

        Args:
            model: the model.
            retry: whether to try a version again whose network failed.

        Returns:
            Whether the source has a new version that is served now.

        Raises:
            SaarthiError: the new version cannot be served; the old one stays.
        """
        async with self._busy:
            try:
                digest = await self._off_loop(model.source.digest)
                if digest == model.version.digest:
                    self._refused.pop(model.name, None)
                    self._failed.pop(model.name, None)
                    return False
                if digest == self._failed.get(model.name) and not retry:
                    return False
                version = await self._off_loop(partial(self._load, model.source))
                old = model.manifest.version
                model.replace(version)
            except Exception as error:
                self._note(model, error)
                raise
            # Free the old version's reference cycles; fast, because other objects are frozen.
            await self._off_loop(gc.collect)
        self._refused.pop(model.name, None)
        model.metrics.loads["loaded"] += 1
        logger.info("%s changed from version %s to %s", model.name, old, version.manifest.version)
        return True

    def _note(self, model: BundleModel, error: Exception) -> None:
        """Log why a version is not served, once in a row."""
        if isinstance(error, FailedVersionError):
            self._failed[model.name] = error.digest
        if self._refused.get(model.name) == repr(error):
            return
        self._refused[model.name] = repr(error)
        model.metrics.loads["refused"] += 1
        logger.error(
            "%s stays at version %s: %s%s",
            model.name,
            model.manifest.version,
            error,
            " (not tried again until it changes)" if isinstance(error, FailedVersionError) else "",
            exc_info=None if isinstance(error, SaarthiError) else error,
        )

    async def _off_loop(self, work: Callable[[], Result]) -> Result:
        """Run work in a thread, one at a time; the thread does not delay the end of the process."""
        done: Future[Result] = Future()

        def run() -> None:
            with self._one:
                if not done.set_running_or_notify_cancel():
                    return
                try:
                    done.set_result(work())
                except BaseException as error:
                    done.set_exception(error)

        Thread(target=run, name="reload", daemon=True).start()
        return await asyncio.wrap_future(done)
