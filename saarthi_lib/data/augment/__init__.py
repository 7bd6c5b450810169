"""Make sentences for the transfer set from the training text; the teacher labels them.

A student learns most from unlabelled text (XtremeDistil, section 5). New sentences need not keep
their meaning, but should resemble the text that the service will get.
"""

from saarthi_lib.data.augment.corpus import Augmented, Sentence
from saarthi_lib.data.augment.generate import augment
from saarthi_lib.data.augment.neighbours import Neighbours

__all__ = ["Augmented", "Neighbours", "Sentence", "augment"]
