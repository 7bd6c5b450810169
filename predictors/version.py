"""A version of a bundle: fetched, verified, loaded and warmed up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from predictors.sources import Source, manifest_digest
from saarthi_lib.bundle import BundleManifest
from saarthi_lib.errors import BundleError
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.logs import get_logger

logger = get_logger("predictors")


class Stamp(TypedDict):
    """Name and version of the model, which each answer has."""

    model: str
    version: str


@dataclass(eq=False, frozen=True, slots=True)
class Version:
    """A loaded bundle, its manifest and digest, and the `stamp` in each of its answers."""

    predictor: Predictor
    manifest: BundleManifest
    digest: str
    stamp: Stamp

    @classmethod
    def load(cls, source: Source, threads: int, trusted_keys: Sequence[Path] = ()) -> "Version":
        """Fetch, verify, load and warm up.

        Args:
            source: source of the bundle.
            threads: threads for one prediction.
            trusted_keys: public keys, one of which must have signed the bundle; empty: accept
                unsigned bundles.

        Raises:
            BundleError: a file is missing or changed, a trusted signature is missing, or the
                runtime is not installed.
        """
        with source.folder(trusted_keys) as folder:
            digest = manifest_digest(folder)
            predictor = Predictor.load(folder, threads=threads, trusted_keys=trusted_keys)
            predictor.warm_up()
            if manifest_digest(folder) != digest:
                raise BundleError(f"{source.uri}: was replaced while it was read; look again")
        manifest = predictor.manifest
        if source.name:
            manifest = replace(manifest, name=source.name)
        if manifest.trial:
            logger.warning(
                "%s, version %s, is the bundle of a trial run: its answers mean nothing",
                manifest.name,
                manifest.version,
            )
        return cls(
            predictor, manifest, digest, {"model": manifest.name, "version": manifest.version}
        )
