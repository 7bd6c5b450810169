"""New sentences for the transfer set, made from the training text; the teacher labels them.

Unlabelled text is what a student learns most from (XtremeDistil, section 5). Nothing here needs to
keep a sentence's meaning: it needs to stay near the text that the student will meet.
"""

from saarthi_lib.data.augment.corpus import Augmented, Sentence
from saarthi_lib.data.augment.generate import augment
from saarthi_lib.data.augment.neighbours import Neighbours

__all__ = ["Augmented", "Neighbours", "Sentence", "augment"]
