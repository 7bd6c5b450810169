"""A version of a bundle: fetched, verified, loaded and warmed up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from predictors.sources import Source, manifest_digest
from saarthi_lib.bundle import BundleManifest
from saarthi_lib.bundle.manifest import HOW_TO_FIX
from saarthi_lib.errors import BundleError, NetworkError, SaarthiError
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.inference.trial import Trial
from saarthi_lib.logs import get_logger

logger = get_logger("predictors")


class Stamp(TypedDict):
    """Name and version of the model, which each answer has."""

    model: str
    version: str


class FailedVersionError(BundleError):
    """A version whose network fails: it fails again until its manifest's `digest` changes."""

    def __init__(self, message: str, digest: str) -> None:
        super().__init__(message)
        self.digest = digest


@dataclass(eq=False, frozen=True, slots=True)
class Version:
    """A loaded bundle, its manifest and digest, and the `stamp` in each of its answers."""

    predictor: Predictor
    manifest: BundleManifest
    digest: str
    stamp: Stamp

    @classmethod
    def load(
        cls,
        source: Source,
        threads: int,
        trusted_keys: Sequence[Path] = (),
        trial: Trial | None = None,
    ) -> "Version":
        """Fetch, verify, try, load and warm up.

        Args:
            source: source of the bundle.
            threads: threads for one prediction.
            trusted_keys: public keys, one of which must have signed the bundle; empty: accept
                unsigned bundles.
            trial: trial of the network; None: one with the default deadline.

        Raises:
            FailedVersionError: the bundle is whole, but its network fails.
            BundleError: a file is missing or changed, a trusted signature is missing, or the
                runtime is not installed.
        """
        with source.folder(trusted_keys) as folder:
            digest = manifest_digest(folder)
            try:
                predictor = Predictor.load(
                    folder,
                    threads=threads,
                    trusted_keys=trusted_keys,
                    trial=(trial or Trial()).run,
                )
                _warm_up(predictor)
            except NetworkError as error:
                message = str(error).replace(str(folder), source.uri)
                raise FailedVersionError(message, digest) from error
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
        if manifest.runtime == "torchscript" and not trusted_keys:
            logger.warning(
                "%s, version %s, is TorchScript, which is code that can read and write files, and "
                "no signature was required: sign it and set SAARTHI_TRUSTED_KEYS, or export it "
                "with runtime: onnxruntime",
                manifest.name,
                manifest.version,
            )
        return cls(
            predictor, manifest, digest, {"model": manifest.name, "version": manifest.version}
        )


def _warm_up(predictor: Predictor) -> None:
    try:
        predictor.warm_up()
    except SaarthiError:
        raise
    except Exception as error:  # each runtime raises its own type
        raise NetworkError(
            f"{predictor.folder}: the network fails when it warms up ({error!r:.300}); {HOW_TO_FIX}"
        ) from error
