"""Names and codes of languages."""

import json
import re
from pathlib import Path

_FILE = Path(__file__).with_name("language_names.json")
_CONTENT = json.loads(_FILE.read_text(encoding="utf-8"))

# ISO 639 codes; a region or script after the code (hi-IN, hin_Deva) is ignored.
LANGUAGE_NAMES: dict[str, str] = {
    code: name for name, codes in _CONTENT["codes"].items() for code in codes.split()
}
UNKNOWN_LANGUAGE = "unknown"
# With the languages that Saarthi does not detect, but that multilingual teachers know.
NAMED_LANGUAGES = frozenset(LANGUAGE_NAMES.values()).union(_CONTENT["others"])
_CODE = re.compile(r"[a-z]{2,3}([_-][a-z0-9]{2,4})*")


def language_name(value: str) -> str:
    """Return the full lower-case name for a language name or code (`hi`, `hi-IN`)."""
    name = value.strip().lower()
    code = name.replace("_", "-")
    known = LANGUAGE_NAMES.get(code) or LANGUAGE_NAMES.get(code.partition("-")[0])
    return known or name or UNKNOWN_LANGUAGE


def is_language(value: str) -> bool:
    """Whether a value is the English name of a language, or has the form of a code."""
    return language_name(value) in NAMED_LANGUAGES or bool(_CODE.fullmatch(value.strip().lower()))
