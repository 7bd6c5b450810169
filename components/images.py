"""Image references, in one place: one image for all components, its tag the package's version."""

import os
import re

from saarthi_lib import __version__

_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_TAG = re.compile(r".+:(?P<tag>[\w][\w.-]*)")


def pinned(image: str) -> str:
    """The image, when a version or a digest names it: only then is a cached result always right.

    Raises:
        ValueError: it has neither, or the tag `latest`.
    """
    tag = _TAG.fullmatch(image.rpartition("/")[2])
    if not (_DIGEST.fullmatch(image) or (tag and tag["tag"] != "latest")):
        raise ValueError(f"image {image}: pin it by a version or a digest, not by what moves")
    return image


# A version is never pushed twice, so a cached result is always that of the code it names.
TRAIN_IMAGE = pinned(os.environ.get("SAARTHI_TRAIN_IMAGE", f"saarthi/train:{__version__}"))
