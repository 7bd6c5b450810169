"""Image references, in one place: one image for all components, its tag the package's version."""

import os

from saarthi_lib import __version__

# A version is never pushed twice, so a cached result is always that of the code it names.
TRAIN_IMAGE = os.environ.get("SAARTHI_TRAIN_IMAGE", f"saarthi/train:{__version__}")
