"""Hot reload: a new version replaces the old one after it is verified, loaded and warmed up."""

import asyncio
import gc
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from predictors.model import BundleModel
from predictors.settings import Settings
from predictors.version import Version
from saarthi_lib.errors import SaarthiError
from saarthi_lib.logs import get_logger

logger = get_logger("predictors")


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
            Version.load, threads=settings.threads, trusted_keys=settings.trusted_keys
        )
        self._refused: dict[str, str] = {}
        self._busy = asyncio.Lock()
        self._executor = ThreadPoolExecutor(1, "reload")

    async def run(self) -> None:
        """Look again and again, never if the interval is 0; errors are logged."""
        while self._seconds:
            await asyncio.sleep(self._seconds)
            for model in self._models.values():
                try:
                    await self.look(model)
                except SaarthiError:
                    continue  # logged by `look`
                except Exception:
                    logger.exception("looking for a new version of %s failed", model.name)

    async def look(self, model: BundleModel) -> bool:
        """Replace a model's version if its source has a new one.

        Returns:
            Whether the source has a new version.

        Raises:
            SaarthiError: the new version cannot be served; the old one stays.
        """
        loop = asyncio.get_running_loop()
        async with self._busy:
            try:
                digest = await loop.run_in_executor(self._executor, model.source.digest)
                if digest == model.version.digest:
                    self._refused.pop(model.name, None)
                    return False
                version = await loop.run_in_executor(self._executor, self._load, model.source)
                old = model.manifest.version
                model.replace(version)
            except SaarthiError as error:
                if self._refused.get(model.name) != str(error):
                    self._refused[model.name] = str(error)
                    model.metrics.loads["refused"] += 1
                    logger.error(
                        "%s stays at version %s: %s", model.name, model.manifest.version, error
                    )
                raise
            # Free the old version's reference cycles; fast, because other objects are frozen.
            await loop.run_in_executor(self._executor, gc.collect)
        self._refused.pop(model.name, None)
        model.metrics.loads["loaded"] += 1
        logger.info("%s changed from version %s to %s", model.name, old, version.manifest.version)
        return True
