"""Tasks: their heads, their labels, and the decoding of tag sequences.

A task has a `sequence` head (one label for the text), a `token` head (one tag for each word), or
both (`joint`). The heads decide everything else.
"""

from saarthi_lib.tasks.decoding import decode, decode_joint, decode_spans
from saarthi_lib.tasks.heads import (
    HEADS,
    OUT_OF_SCOPE,
    OUTSIDE,
    bio_spans,
    bio_tags,
    has_sequence_head,
    has_token_head,
    uses_bio,
)
from saarthi_lib.tasks.labels import Labels

__all__ = [
    "HEADS",
    "OUTSIDE",
    "OUT_OF_SCOPE",
    "Labels",
    "bio_spans",
    "bio_tags",
    "decode",
    "decode_joint",
    "decode_spans",
    "has_sequence_head",
    "has_token_head",
    "uses_bio",
]
