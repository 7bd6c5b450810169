"""Normalization keeps what carries meaning, is idempotent, and knows where characters come from."""

import re
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from saarthi_lib.text.normalize import PRESETS, Normalizer

standard = Normalizer("standard")
romanized = Normalizer("romanized")
none = Normalizer("none")
ZWNJ, ZWJ = "\u200c", "\u200d"
MARKS = "\u0345\u0316"  # NFC puts the second mark before the first

# Dense in what the rules look at, so that they meet: signs, nuktas, viramas and joiners of several
# scripts, invisible characters, white space, emoji, quotes, digits, and Latin that folds.
DENSE = (
    "कनरअआइएडख\u0958\u0931ऩािीेैॅॉॆंँः़्ऺॖ"
    "তঅঋড়\u09dcাৃ়্ে\u09d7ৗ"
    "ਅੲੳਸ\u0a36਼ਾਿੁ੍"
    "અાૅૈ઼્"
    "ଅଏଡ\u0b5c଼ାୗେ୍"
    "அஒஸரூாெ்ௗ"
    "ఒిై్ౕಉಕಿ\u0cc6\u0cd5ಾ಼್"
    "നകലഇഎൗൊ്ൺ"
    "අඑඔශරේාෟ"
    "یمخہا\u064b\u0654"
    "\u200b\u200c\u200d\ufeff\xad\u2060\u202e\x00\x1b \t\n\xa0\u3000\u2028"
    "👩🏽👧❤\ufe0f\U0001f3f4\U000e0067\U000e0062\U000e007f"
    "“’—…！Ａ５०٣৪𝟘"
    "aAeiouyhkcgdnwvXI!!??..,,--।।'1é\u0301\u0327Å가\u1100\u1161\u11a8"
)
texts = st.text(st.sampled_from(DENSE), max_size=12) | st.text(max_size=12)
words = texts.map(lambda text: "".join(text.split())).filter(bool)
normalizers = st.sampled_from([standard, romanized])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafe\u0301", "caf\u00e9"),
        # Nukta: precomposed, decomposed, behind the vowel sign, behind the virama, twice.
        ("\u0958लम", "क़लम"),
        ("क\u093cलम", "क़लम"),
        ("\u095dाई", "ढ\u093cाई"),
        ("ढा\u093cई", "ढ\u093cाई"),
        ("ज\u094d\u093cया", "ज\u093c\u094dया"),
        ("ज\u093c\u093cरा", "ज\u093cरा"),
        ("न\u093e\u093c", "\u0929\u093e"),
        ("न\u200d\u093c", "\u0929"),
        ("\u09dcা ডা\u09bc", "ড\u09bcা ড\u09bcা"),
        ("\u0a36ੀ ਸੀ\u0a3c", "ਸ\u0a3cੀ ਸ\u0a3cੀ"),
        ("\u0b5cା ଡା\u0b3c", "ଡ\u0b3cା ଡ\u0b3cା"),
        # Vowels in two parts.
        ("க\u0bc6\u0bbe", "கொ"),
        ("অ\u09beম", "আম"),
        ("अ\u093eम अ\u093e\u0947", "आम ओ"),
        ("\u0930\u094d\u0907", "ई"),
        ("એક અ\u0ac7ક", "એક એક"),
        ("ಉ\u0cbeಟ", "ಊಟ"),
        # Letters that were sequences once.
        (f"അവന\u0d4d{ZWJ} അവള\u0d4d{ZWJ}", "അവൻ അവൾ"),
        (f"হঠাত\u09cd{ZWJ}", "হঠাৎ"),
        # Digits of every script.
        ("५०० ۵۰ ௧௨ ১২ １２", "500 50 12 12 12"),
        # White space, invisible characters.
        ("  turn\ton\u3000the\u00a0\n lights ", "turn on the lights"),
        ("\ufeffनम\u200bस्ते\u200e", "नमस्ते"),
        ("co\xadop\u2060erate\x00", "cooperate"),
        (f"{ZWJ}ab{ZWNJ}cd{ZWJ} क{ZWJ} न{ZWNJ}ल", "abcd क नल"),
        # Punctuation.
        ("“it’s” – ‘ok’…", "\"it's\" - 'ok'."),
        ("Ｈｅｌｌｏ！", "Hello!"),
        ("what??? no!! wait.... क्या।।।", "what? no! wait. क्या।"),
        ("1..2 -- a,,b", "1..2 -- a,,b"),
        # Letters drawn out, and letters three times that are not.
        ("Sooooo goood NOOOO", "Soo good NOO"),
        ("www III XVIII AAA aAA 1000 0xffff", "www III XVIII AAA aAA 1000 0xffff"),
    ],
)
def test_spelling_variants_become_one(text: str, expected: str) -> None:
    assert standard(text) == expected


@pytest.mark.parametrize(
    "word",
    [
        f"क्{ZWJ}ष",  # half form shown (Hindi)
        f"दुसर्{ZWJ}या",  # eyelash ra (Marathi)
        f"गर्{ZWJ}यो",  # the same (Nepali)
        f"वाक्{ZWNJ}य",  # no conjunct
        f"র{ZWJ}্যাব",  # ra with ya-phala (Bengali)
        f"উদ্{ZWNJ}ঘাটন",
        f"ශ්{ZWJ}රී",  # rakaransaya (Sinhala)
        f"ක්{ZWJ}ෂණ",
        f"ಸಾಫ್ಟ್{ZWNJ}ವೇರ್",  # no conjunct, in most loan words (Kannada, Telugu)
        f"సాఫ్ట్{ZWNJ}వేర్",
        f"ರ{ZWJ}್ಯಾಂಕ್",
        f"സോഫ്റ്റ്{ZWNJ}വെയർ",  # (Malayalam)
        f"لاله{ZWNJ}زار",  # compound (Urdu, Persian)
        f"می{ZWNJ}خواهم",
        f"👩{ZWJ}👩{ZWJ}👧",
        f"❤\ufe0f{ZWJ}🔥",
        f"👩🏽{ZWJ}🚀",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # England
        "ॐ हिन्दी में ज़्यादा",
    ],
)
def test_meaningful_joiners_are_kept(word: str) -> None:
    assert standard(word) == word
    assert standard(f"{word} {word}") == f"{word} {word}"
    assert standard(word.replace(ZWJ, ZWJ * 2).replace(ZWNJ, ZWNJ * 2)) == word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Aap kyaa KAAM karte ho", "Ap kya KAM karte ho"),
        ("bhee khareedne dhoop", "bhi kharidne dhup"),
        ("nahiiiii hai yaaaar", "nahi hai yar"),
        ("bataiye batayein bataayen karein", "bataye bataye bataye karen"),
        ("achchha achha accha ACHHA", "acha acha acha ACHA"),
        ("yeh woh", "ye wo"),
        # English keeps its spelling, and so does what is not a word.
        ("see the school phone Friday what size II", "see the school phone Friday what size II"),
        ("aa1 छaa caaé", "aa1 छaa caaé"),
    ],
)
def test_romanized_changes_hindi_but_not_english(text: str, expected: str) -> None:
    assert romanized(text) == expected
    assert "".join(c for c in standard(text) if c.isspace()) == text.count(" ") * " "


def test_every_white_space_and_digit_of_unicode() -> None:
    for character in map(chr, range(0x110000)):
        if character.isspace():
            assert standard(f"a{character}b") == "a b"
        elif character.isdecimal():
            assert standard(character) == str(int(character))


def seconds(text: str) -> float:
    """Time to normalize a text; other work on the machine does not count."""
    start = time.process_time()
    romanized.align(text)
    return time.process_time() - start


@pytest.mark.parametrize(
    "unit",
    ["a", "ab", "aab", "ch", " ", "!", ".", ZWJ, f"क्{ZWJ}", "़", "ा", "\U0001f3f4\U000e0067", MARKS],
)
def test_time_grows_linearly_with_length(unit: str) -> None:
    """A text that was made to be slow must not hold a service up."""

    short, long = (min(seconds(unit * size + "1") for _ in range(3)) for size in (2_000, 20_000))

    assert long < 40 * short + 0.05  # ten times the length


@pytest.mark.parametrize("word", ["xx{}", "{}ch", "ch{}", "yo{}h"])
@pytest.mark.parametrize("unit", ["iI", "uU", "cC", "hH", "cCh", "aA", "eE", "oO"])
def test_letters_in_mixed_case_are_folded_in_one_round(word: str, unit: str) -> None:
    assert seconds(word.format(unit * 5_000)) < 0.5


@pytest.mark.parametrize("marks", ["\u0c03\u034b", "\u0981\u034b\u0c03\u0306"])
def test_nukta_passes_other_marks_in_one_round(marks: str) -> None:
    usual = f"क{marks * 7}" * 300
    slow = f"क{marks * 7}\u093c" * 300

    assert standard(f"क{marks * 7}\u093c") == standard(f"क\u093c{marks * 7}")
    assert min(seconds(slow) for _ in range(3)) < 10 * min(seconds(usual) for _ in range(3)) + 0.05


@given(st.lists(texts | st.sampled_from([MARKS * 9, MARKS * 40, "\u0344" * 29, ZWJ + MARKS * 8])))
def test_marks_beyond_thirty_in_a_row_are_cut(parts: list[str]) -> None:
    made = standard("".join(parts))

    assert not re.search("M{31}", "".join(unicodedata.category(c)[0] for c in made))


@pytest.mark.parametrize("marks", [31, 45, 1000])
@pytest.mark.parametrize("between", ["", "\u200b"])
def test_cut_marks_stay_in_their_word(marks: int, between: str) -> None:
    word = "x" + between.join(MARKS[1] * marks)
    alignment = standard.align(f"one {word} two")

    assert alignment.text == standard(alignment.text) == f"one x{MARKS[1] * 30} two"
    assert alignment.to_original(4, 35) == (4, 4 + len(word))
    assert alignment.to_original(36, 39) == (5 + len(word), 8 + len(word))
    assert alignment.to_normalized(4, 4 + len(word)) == (4, 35)


def test_thirty_marks_in_a_row_are_kept() -> None:
    text = "x" + MARKS[1] * 30

    assert standard(text) == text
    assert none(text + MARKS) == text + MARKS


def test_none_changes_nothing() -> None:
    text = " क\u093e\u093c \u200b५  "

    assert none(text) == text
    assert none.align(text).to_original(1, 3) == none.align(text).to_normalized(1, 3) == (1, 3)


def test_presets_are_checked_and_compared() -> None:
    with pytest.raises(ValueError, match="none, standard, romanized"):
        Normalizer("strong")
    assert {Normalizer(preset) for preset in PRESETS} == {none, standard, romanized}


@pytest.mark.parametrize(
    ("text", "part", "original"),
    [
        ("  turn   on", "on", "on"),
        ("  turn   on", " ", "   "),
        ("कल \u0958लम!!!", "क\u093cलम", "\u0958लम"),
        ("कल \u0958लम!!!", "!", "!!!"),
        ("ढा\u093cई बजे", "ढ\u093cाई", "ढा\u093cई"),
        ("“५०० रुपये”", "500", "५००"),
        ("soooo niceee!", "nicee", "niceee"),
        ("in De\xadlhi\u200b now", "Delhi", "De\xadlhi"),
        ("e\u0301te\u0301\u200bs", "étés", "e\u0301te\u0301\u200bs"),
        (f"അവന\u0d4d{ZWJ} വന്നു", "അവൻ", f"അവന\u0d4d{ZWJ}"),
        ("wait… ok", ".", "…"),
    ],
)
def test_spans_map_to_the_original_and_back(text: str, part: str, original: str) -> None:
    alignment = standard.align(text)
    start = alignment.text.index(part)
    span = (start, start + len(part))

    first, last = alignment.to_original(*span)

    assert text[first:last] == original
    assert alignment.to_normalized(first, last) == span


def test_removed_text_maps_to_an_empty_span() -> None:
    alignment = standard.align("a\u200bb  ")

    assert alignment.to_normalized(1, 2) == (1, 1)
    assert alignment.to_normalized(3, 5) == (2, 2)
    assert alignment.to_original(2, 2) == (5, 5)
    assert standard.align("\u200b").to_normalized(0, 1) == (0, 0)


@settings(max_examples=500)
@given(text=texts, normalizer=normalizers)
@example(text="\ud800a\u200b", normalizer=standard)
def test_normalization_is_idempotent(text: str, normalizer: Normalizer) -> None:
    once = normalizer(text)

    assert normalizer(once) == once
    assert normalizer.align(text).text == once
    assert once == once.strip() and unicodedata.is_normalized("NFC", once)


@settings(max_examples=500)
@given(text=texts, normalizer=normalizers, data=st.data())
def test_spans_are_monotone_and_reversible(
    text: str, normalizer: Normalizer, data: st.DataObject
) -> None:
    alignment = normalizer.align(text)
    size = len(alignment.text)
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))

    first, last = alignment.to_original(start, end)

    assert alignment.original == text and 0 <= first <= last <= len(text)
    assert (first < last) == (start < end)
    back = alignment.to_normalized(first, last)
    assert start == end or (back[0] <= start and end <= back[1] <= size)
    edges = [alignment.to_original(i, i + 1) for i in range(size)]
    assert [a for a, _ in edges] == sorted(a for a, _ in edges)
    assert [b for _, b in edges] == sorted(b for _, b in edges)


@settings(max_examples=400)
@given(before=words, word=words, after=words, normalizer=normalizers)
def test_words_are_normalized_independently(
    before: str, word: str, after: str, normalizer: Normalizer
) -> None:
    alone = [normalizer(part) for part in (before, word, after)]

    assert normalizer(f"{before} {word} {after}") == " ".join(filter(None, alone))


@settings(max_examples=400)
@given(text=texts)
def test_visible_characters_are_kept(text: str) -> None:
    """Letters, numbers and symbols stay; of the marks only a nukta's double goes."""

    def kinds(string: str) -> set[str]:
        decomposed = unicodedata.normalize("NFKD", string)
        return {c for c in decomposed if unicodedata.category(c)[0] in "LNS"}

    def as_digits(string: str) -> str:
        return "".join(str(unicodedata.decimal(c, c)) for c in string)

    assert kinds(standard(text)) >= {c for c in kinds(as_digits(text)) if c.isascii()} - set("`")
    if any(unicodedata.category(c)[0] in "LNPSM" for c in text):
        assert standard(text)
