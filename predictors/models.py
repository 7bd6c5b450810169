"""The served models and their metadata, shared by all protocols."""

from collections.abc import Mapping
from typing import Any

from predictors.access import Gate
from predictors.errors import RequestError, UnknownModelError
from predictors.model import BundleModel
from predictors.reload import Reloader
from predictors.v2 import input_types, output_types
from saarthi_lib.errors import SaarthiError


class Models:
    """Served models by name; requests without a name go to the first one.

    Attributes:
        draining: whether the server is shutting down and no longer ready.
        gate: access check for requests to load a new version.
    """

    def __init__(
        self, by_name: Mapping[str, BundleModel], reloader: Reloader | None, gate: Gate
    ) -> None:
        self.by_name = by_name
        self.draining = False
        self.gate = gate
        self._reloader = reloader

    @property
    def ready(self) -> bool:
        """Whether the server accepts requests. Models warm up before the ports open."""
        return not self.draining

    @property
    def first(self) -> BundleModel:
        """Model for requests without a name."""
        return next(iter(self.by_name.values()))

    def find(self, name: str, version: str = "") -> BundleModel:
        """Find a model by name.

        Args:
            name: bundle name.
            version: required version; empty accepts any.

        Raises:
            UnknownModelError: the model or its version is not served.
        """
        model = self.by_name.get(name)
        if model is None:
            raise UnknownModelError(
                f"the model {name[:128]!r} does not exist; served are {', '.join(self.by_name)}"
            )
        if version not in ("", model.manifest.version):
            raise UnknownModelError(
                f"version {version[:128]!r} of {name} is not served; {model.manifest.version!r} is"
            )
        return model

    async def load(self, name: str) -> None:
        """Look for a new version of a model now.

        Raises:
            RequestError: the repository API is off, or the new version cannot be served.
        """
        model = self.find(name)
        if self._reloader is None:
            raise RequestError("the repository API is off: set SAARTHI_REPOSITORY_API=true")
        try:
            await self._reloader.look(model, retry=True)
        except SaarthiError as error:
            raise RequestError(f"the new version cannot be served: {error}") from error


def summary(model: BundleModel) -> dict[str, Any]:
    """Model summary for health endpoints."""
    manifest = model.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "created": manifest.created,
        "task": manifest.task,
        "languages": list(manifest.languages),
        "scores": manifest.metrics,
        "trial": manifest.trial,
    }


def v2_metadata(model: BundleModel) -> dict[str, Any]:
    """Model metadata of the V2 protocol, with our own in `metadata`."""
    manifest = model.manifest
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": f"saarthi_{manifest.task}_{manifest.runtime}",
        "inputs": input_types(),
        "outputs": output_types(manifest),
        "metadata": model.metadata,
    }
