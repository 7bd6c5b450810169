"""The models that are served, and what the server tells of itself: the same for each protocol."""

from collections.abc import Mapping
from typing import Any

from predictors.access import Gate
from predictors.errors import RequestError, UnknownModelError
from predictors.model import BundleModel
from predictors.reload import Reloader
from saarthi_lib.errors import SaarthiError


class Models:
    """The models by name; the first is asked where none is named.

    Attributes:
        draining: whether the server is about to stop, and so is no longer ready.
        gate: of who asks for a new version.
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
        """Whether requests should be sent here. Models are warm before the ports open."""
        return not self.draining

    @property
    def first(self) -> BundleModel:
        """The model that is asked where none is named."""
        return next(iter(self.by_name.values()))

    def find(self, name: str, version: str = "") -> BundleModel:
        """A model by name.

        Args:
            name: of the bundle.
            version: that the client insists on; empty for any.

        Raises:
            UnknownModelError: there is none.
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
        """Look for a new version of a model at once.

        Raises:
            RequestError: that is not allowed, or there is one that cannot be served.
        """
        model = self.find(name)
        if self._reloader is None:
            raise RequestError("the repository API is off: set SAARTHI_REPOSITORY_API=true")
        try:
            await self._reloader.look(model)
        except SaarthiError as error:
            raise RequestError(f"the new version cannot be served: {error}") from error


def summary(model: BundleModel) -> dict[str, Any]:
    """What health endpoints say of a model."""
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
    """V2's metadata of a model, with the bundle's manifest under `metadata`."""
    manifest = model.manifest
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": f"saarthi_{manifest.task}_{manifest.runtime}",
        "inputs": model.get_input_types(),
        "outputs": model.get_output_types(),
        "metadata": manifest.to_dict(),
    }
