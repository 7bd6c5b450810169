"""Model bundles: write, read, verify and sign; `publishing` copies them to storage."""

from saarthi_lib.bundle.files import (
    read_manifest,
    read_verified,
    sign_bundle,
    verify_bundle,
    write_bundle,
)
from saarthi_lib.bundle.manifest import (
    FAMILIARITY,
    LABELS,
    MODEL,
    ONNX_MODEL,
    RUNTIMES,
    TOKENIZER,
    TRAINING_CONFIG,
    VOCABULARY,
    BundleManifest,
    Calibration,
    FileRecord,
)
from saarthi_lib.layout import MANIFEST, SIGNATURE

__all__ = [
    "FAMILIARITY",
    "LABELS",
    "MANIFEST",
    "MODEL",
    "ONNX_MODEL",
    "RUNTIMES",
    "SIGNATURE",
    "TOKENIZER",
    "TRAINING_CONFIG",
    "VOCABULARY",
    "BundleManifest",
    "Calibration",
    "FileRecord",
    "read_manifest",
    "read_verified",
    "sign_bundle",
    "verify_bundle",
    "write_bundle",
]
