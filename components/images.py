"""Image of all components; its tag is the package's version."""

import os
import re

from saarthi_lib import __version__

_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_TAG = re.compile(r".+:(?P<tag>[\w][\w.-]*)")


def pinned(image: str) -> str:
    """Return the image if its reference has a version or a digest, so that its code is fixed.

    Raises:
        ValueError: the reference has neither, or has the tag `latest`.
    """
    tag = _TAG.fullmatch(image.rpartition("/")[2])
    if not (_DIGEST.fullmatch(image) or (tag and tag["tag"] != "latest")):
        raise ValueError(f"image {image}: pin it by a version or a digest")
    return image


# A version is pushed once, so a cached result always comes from the code of that version.
TRAIN_IMAGE = pinned(os.environ.get("SAARTHI_TRAIN_IMAGE", f"saarthi/train:{__version__}"))
