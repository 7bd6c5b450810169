"""Names and codes of languages."""

import re

# ISO 639 codes; a region or script after the code (hi-IN, hin_Deva) is ignored.
LANGUAGE_NAMES = {
    "as": "assamese", "bn": "bengali", "brx": "bodo", "doi": "dogri", "en": "english",
    "gu": "gujarati", "hi": "hindi", "hi-en": "hinglish", "en-hi": "hinglish", "kn": "kannada",
    "ks": "kashmiri", "kok": "konkani", "mai": "maithili", "ml": "malayalam", "mni": "manipuri",
    "mr": "marathi", "ne": "nepali", "or": "odia", "pa": "punjabi", "sa": "sanskrit",
    "sat": "santali", "sd": "sindhi", "si": "sinhala", "ta": "tamil", "te": "telugu", "ur": "urdu",
    "asm": "assamese", "ben": "bengali", "eng": "english", "guj": "gujarati", "hin": "hindi",
    "kan": "kannada", "kas": "kashmiri", "mal": "malayalam", "mar": "marathi", "nep": "nepali",
    "npi": "nepali", "ori": "odia", "ory": "odia", "pan": "punjabi", "san": "sanskrit",
    "snd": "sindhi", "sin": "sinhala", "tam": "tamil", "tel": "telugu", "urd": "urdu",
    "ar": "arabic", "de": "german", "es": "spanish", "fr": "french", "id": "indonesian",
    "it": "italian", "ja": "japanese", "ko": "korean", "nl": "dutch", "pt": "portuguese",
    "ru": "russian", "tr": "turkish", "zh": "chinese",
}  # fmt: skip
UNKNOWN_LANGUAGE = "unknown"

# Languages that Saarthi does not detect, but that multilingual teachers know.
_OTHERS = (
    "afrikaans albanian amharic armenian awadhi azerbaijani basque belarusian bhojpuri bosnian "
    "breton bulgarian burmese catalan cebuano chhattisgarhi croatian czech danish dzongkha "
    "esperanto estonian filipino finnish galician garhwali georgian greek haryanvi hausa hebrew "
    "hungarian icelandic igbo irish javanese kazakh khasi khmer kinyarwanda kumaoni kurdish "
    "kyrgyz lao latin latvian lithuanian macedonian magahi malagasy malay maltese mizo mongolian "
    "norwegian oromo pashto persian polish rajasthani romanian scottish serbian shona slovak "
    "slovenian somali sundanese swahili swedish tagalog thai tibetan tigrinya tulu ukrainian "
    "uyghur uzbek vietnamese welsh xhosa yiddish yoruba zulu"
)
NAMED_LANGUAGES = frozenset(LANGUAGE_NAMES.values()).union(_OTHERS.split())
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
