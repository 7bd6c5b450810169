"""Model bundles: write, read, verify and sign.

`publishing` copies them to storage, and `card` describes them for people.
"""

from saarthi_lib.bundle.files import (
    manifest_bytes,
    read_manifest,
    read_verified,
    sign_bundle,
    verify_bundle,
    write_bundle,
)
from saarthi_lib.bundle.manifest import BundleManifest, Calibration, FileRecord
from saarthi_lib.layout import MANIFEST

__all__ = [
    "MANIFEST",
    "BundleManifest",
    "Calibration",
    "FileRecord",
    "manifest_bytes",
    "read_manifest",
    "read_verified",
    "sign_bundle",
    "verify_bundle",
    "write_bundle",
]
