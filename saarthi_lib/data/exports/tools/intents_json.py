"""The `intents.json` of many chatbot tutorials: an intent's `tag` with its `patterns`.

Source of the description: tutorials and repositories of such chatbots (`responses` and
`context_set` beside the patterns).
"""

from collections.abc import Iterator
from pathlib import Path

from saarthi_lib.data.exports.documents import Head, load_json
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.formats.columns import RawRow


def recognize(head: Head) -> str:
    """Whether a file is an object whose first intent has a tag and patterns."""
    intents = head.object.get("intents")
    first = intents[0] if isinstance(intents, list) and intents else None
    return "rows" if isinstance(first, dict) and {"tag", "patterns"} <= first.keys() else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Patterns with the tag of their intent, numbered over the whole file."""
    row = 0
    for at, intent in enumerate(load_json(path)["intents"], 1):
        tag, patterns = intent.get("tag"), intent.get("patterns")
        for name in intent.keys() - {"tag", "patterns"}:
            reading.leave(name, path, f"intent {at} ({tag})")
        for text in patterns if isinstance(patterns, list) else [patterns]:
            row += 1
            if isinstance(text, str) and isinstance(tag, str):
                yield example(row, text, tag)
            else:
                yield unfit(row, f"intent {at} ({tag}) needs a 'tag' and a list of 'patterns'")
