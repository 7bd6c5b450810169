"""Hot reload: a new version takes over when it is loaded, verified and warm; a bad one never."""

import asyncio
import gc
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from predictors.model import BundleModel
from predictors.version import Version
from saarthi_lib.errors import SaarthiError
from saarthi_lib.logs import get_logger

logger = get_logger("predictors")


class Reloader:
    """Looks for new versions of the models where they came from.

    Args:
        models: by name.
        seconds: between looks.
        threads: that one prediction may use.
        trusted_keys: of which one must have signed; see `Version.load`.
    """

    def __init__(
        self,
        models: Mapping[str, BundleModel],
        seconds: float,
        threads: int,
        trusted_keys: Sequence[Path] = (),
    ) -> None:
        self._models = models
        self._seconds = seconds
        self._load = partial(Version.load, threads=threads, trusted_keys=trusted_keys)
        self._refused: dict[str, str] = {}
        self._busy = asyncio.Lock()
        self._executor = ThreadPoolExecutor(1, "reload")

    async def run(self) -> None:
        """Look for ever (not at all at 0 seconds); what goes wrong is logged and tried again."""
        while self._seconds:
            await asyncio.sleep(self._seconds)
            for model in self._models.values():
                try:
                    await self.look(model)
                except SaarthiError:
                    continue  # told by `look`
                except Exception:
                    logger.exception("looking for a new version of %s failed", model.name)

    async def look(self, model: BundleModel) -> bool:
        """Take over a new version if there is one.

        Returns:
            Whether there was.

        Raises:
            SaarthiError: there is one that cannot be served; the old one goes on.
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
            # For the old one's memory, which is in circles; quick, as all else is frozen.
            await loop.run_in_executor(self._executor, gc.collect)
        self._refused.pop(model.name, None)
        model.metrics.loads["loaded"] += 1
        logger.info("%s went from version %s to %s", model.name, old, version.manifest.version)
        return True
