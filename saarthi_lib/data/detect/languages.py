"""Detect the language of rows if neither the file nor the configuration gives it.

A script of one language decides alone. Languages that share Latin, Devanagari, Bengali, Arabic,
Cyrillic or Chinese characters are separated by function words, word endings or letters. Rows
without such evidence ("EMI", "ok", "50%") take the most frequent language of their script in train.
Text in other scripts, and longer text that resembles no known language, stays "unknown".
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import pandas as pd

from saarthi_lib.logs import get_logger
from saarthi_lib.text.language_names import UNKNOWN_LANGUAGE

logger = get_logger("data")

LEAST_FREQUENT = 0.01  # share of a script's evident training rows that make a language frequent
LEAST_ROWS = 5  # of all splits; languages with fewer rows and a lower share are noise
LEAST_EVIDENT = 0.2  # share of a script's training rows that must show a known language
FEW_FOREIGN = 2 / 3  # least share of evident rows among evident and foreign ones; fewer are strict
SEVERAL = 3  # words of a row that should show its language
OTHER = "other"  # scripts and languages that are not supported
ROWS_LEARNT = 50_000  # most training rows for counting languages

# Languages of scripts that no other language here uses.
_ONLY = {
    "gurmukhi": "punjabi", "gujarati": "gujarati", "odia": "odia", "tamil": "tamil",
    "telugu": "telugu", "kannada": "kannada", "malayalam": "malayalam", "sinhala": "sinhala",
    "meetei": "manipuri", "ol": "santali", "hangul": "korean",
}  # fmt: skip
# First and last code point of each script.
_RANGES = {
    "latin": (
        *((0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xB5, 0xB5), (0xBA, 0xBA), (0xC0, 0x24F)),
        *((0x1E00, 0x1EFF), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A)),
    ),
    "cyrillic": ((0x400, 0x52F),),
    "arabic": ((0x620, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
    "devanagari": ((0x900, 0x963), (0x970, 0x97F)),  # without dandas and digits
    "bengali": ((0x980, 0x9FF),),
    "gurmukhi": ((0xA00, 0xA7F),),
    "gujarati": ((0xA80, 0xAFF),),
    "odia": ((0xB00, 0xB7F),),
    "tamil": ((0xB80, 0xBFF),),
    "telugu": ((0xC00, 0xC7F),),
    "kannada": ((0xC80, 0xCFF),),
    "malayalam": ((0xD00, 0xD7F),),
    "sinhala": ((0xD80, 0xDFF),),
    "ol": ((0x1C50, 0x1C7F),),
    "meetei": ((0xABC0, 0xABFF),),
    "hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF)),
    "cjk": (
        (0x3005, 0x3007),
        (0x3041, 0x30FF),
        (0x3400, 0x4DBF),
        (0x4E00, 0x9FFF),
        (0xFF66, 0xFF9F),
    ),
}
_SCRIPTS = {
    code: script
    for script, ranges in _RANGES.items()
    for first, last in ranges
    for code in range(first, last + 1)
}
# Texts of every script contain Latin letters: a share of 20% of other letters outweighs them.
_LATIN_SHARE = 0.2

# Letters that only one language of a script has, and letters or words of related languages.
_LETTERS = {
    "bengali": (("assamese", "[ৰৱ]"), ("bengali", "র")),
    "arabic": (
        ("sindhi", "[ٻٺٽڦڄڃڇڌڏڊڍڙڪڳڱڻ]"),
        ("urdu", "[ٹڈڑںےہھۓ]"),
        ("arabic", r"[ةإى]|\b(?:في|من|على|هذا|هذه|هل|ما|لا|كل|كيف|عن|مع|هو|هي)\b|\bال\w{2}"),
    ),
    "cyrillic": (("", "[іїєґўјљњћђѓќ]"), ("russian", r"[ыэё]|\b(?:и|не|что|как|это|мне|вы)\b")),
    "cjk": (("japanese", "[ぁ-ヿ]"), ("chinese", "[的了是在我不吗请这你么们]")),
}

# Function words and other frequent words. Those before "|" count double.
_WORDS = {
    "english": "the is are was were be been does did have has had will would can could should "
    "must my your his her its our their you she it they him them this that these those what which "
    "who whom when where why how and but if of from for with about into not yes please there here "
    "any some more than then just only also out up down over after before while because get give "
    "make need want know tell show find turn let like help order buy go going don doesn didn isn "
    "won cant dont whats im ive hi hello thanks thank much many other another between during there "
    "play set put add open close switch start stop call send book remind|a an i in on at to do by "
    "as or so no we he me us am all may us off new",
    "hinglish": "hai hain hoon hun tha thi kya kyun kyu kyon kaise kaisa kaisi kab kahan "
    "kahaan kaun kaunsa kaunsi kitna kitne kitni nahi nahin nhi mujhe mujhko mera "
    "meri mere hamara hamare humein hamein hume aap aapka apka aapke apke aapki apki "
    "tum tumhara tera teri iska iske iski uska uske uski unka unke unki inka yeh woh "
    "koi kuch kuchh sab sabhi aur lekin magar agar toh bhi abhi phir fir jab tak wala "
    "wale wali vala vale vali karo karna karne karni karti kardo karde "
    "karke kariye karein karen karenge karunga kiya kiye kijiye raha rahe rahi rha "
    "rhe rhi hoga hogi honge hota hote hoti hua hue hui gaya gaye gayi gya diya diye "
    "dijiye dena dene dedo dikhao dikhaye dikhaen dikhaiye batao bataye bataen "
    "bataiye btao bajao bajaye lagao lagaye lagaen lagane lagana bhejo bheje bhejen "
    "bhejna bhejne chahiye chahie chaiye chahta chahte chahti sakta sakte sakti liye "
    "yahan wahan jaldi kal aaj subah shaam raat dopahar baje minat ghante ghanta "
    "hafte paas saath sath baad pehle pahle andar bahar upar neeche dusra doosra "
    "theek thik accha acha achha haan ji bhai yaar matlab ghar ek chaar paanch kaam "
    "dost pita hatao hata mita jana jaye jaaye jaayen jaen banao banaye banaen banane "
    "yaad rakho rakhna rakhen suno sunao sunaye roko roken rokne chalu shuru khatam "
    "khol kholo jodo jode joden konse pucho puche kare lagayen dilaiye dilaye dilaen "
    "dilana muje mujhse dohrayen bole jodey karaye sarey jaaye ka ki ke ko mai|mein karta karte "
    "se band kar de den dein le lo ho par pe na main hi ye wo jo tab ab hum to me "
    "is us the",
    "german": "der die das und ist nicht ich du wir ihr sie ein eine einen einem einer den dem des "
    "mit von zu zum zur auf für bei aus nach wie was wer wo wann warum kann mir mich mein meine "
    "dein bitte auch noch nur oder aber wenn sind hat habe haben wird werden|im in an so es er am",
    "french": "le la les un une des du et est pas je tu il nous vous ils elle que qui quoi dans "
    "pour avec sur ce cette mon ma mes votre vos mais ou où quand comment pourquoi combien plus "
    "sont suis avez être avoir fait au aux ne sans s'il|en de à on se me y a",
    "spanish": "el los las un una unos y es no que en por para con del al se lo su sus mi mis tu "
    "yo está están como qué cómo cuál cuándo dónde quiero puedo pero más muy hay este esta eso "
    "tengo ser fue son también ya cuánto necesito|de la a o me le si",
    "portuguese": "o os um uma e é não que em por para com do da dos das no na nos nas ao se seu "
    "sua meu minha você eu ele ela está como quando onde quero mas mais muito isso este esta foi "
    "são também já ou|de a as me",
    "italian": "il lo gli un una e è non che per con del della dei delle nel nella al alla di "
    "mi mio mia tuo io tu lui lei come quando dove perché sono ho hai ha voglio anche più questo "
    "questa cosa qual sul|la le i da a si se",
    "dutch": "het een en is niet ik je jij u we wij zijn van voor met op aan naar uit bij dat "
    "dit die deze wat wie waar wanneer hoe kan mijn maar ook nog wel heb heeft hebben wordt "
    "worden|de in om er te of als",
    "indonesian": "yang dan di ke dari untuk dengan ini itu tidak saya anda kami kita mereka ada "
    "adalah akan sudah bisa apa siapa kapan bagaimana berapa mana atau tapi pada juga aku kamu "
    "tolong jangan lagi dalam|",
    "turkish": "bir ve bu şu için ile mi mı mu mü ne nasıl neden kim nerede değil var yok ben sen "
    "biz siz benim çok daha ama gibi kadar lütfen olarak olan|o de da en",
}
_POINTS = {"hinglish": 6.0}  # of a sure word, since Hinglish contains English words too
# Devanagari: words, and endings of words after at least two characters.
_DEVANAGARI = {
    "hindi": "है हैं था थी थे हूँ हूं का की के को में से पर और यह वह वे ये नहीं कि ने भी कर करो करें "
    "करना करने करता करते करती किया किए दो दें दीजिए कीजिए हुआ हुई हुए रहा रही रहे गया गई गए जा लिए क्या "
    "क्यों कैसे कब कहाँ कहां कितना कितने कितनी कौन मुझे मेरा मेरी मेरे मैं हम आप अपने अपनी अपना इस उस इसके "
    "उसके तो जो या एवं तथा साथ बाद लेकिन अगर चालू बंद|हो ही एक",
    "marathi": "आहे आहेत आहेस नाही नाहीत आणि होता होती होते होतं तो ती ते मी हे हा ही त्या या त्याला "
    "तिला त्याचा त्याची त्याचे माझा माझी माझे माझ्या तुझा मला तुला आम्ही तुम्ही आपण काय कसे कसा "
    "कशी कधी कुठे कोण किती का पण म्हणून म्हणाला म्हणाली करा करू केला केली केले झाला झाली झाले "
    "साठी मध्ये वर खूप असे असा असून जर तर किंवा व आता हवे पाहिजे सांगा सांग दाखव लावा सुरू बघ ठेव "
    "मग तू तुझे तुझी गेला गेली गेले आला आली आले दिला दिली दिले लागला लागली लागले पुन्हा पाहिले "
    "एका|एक की",
    "nepali": "छ छन् छैन छु हो होइन थियो थिए र पनि लाई गर्न गर्ने गर्नुहोस् गरेको गरे भने भएको भयो "
    "यो त्यो म मेरो मलाई तपाईं हामी कति कहाँ किन कसरी कुन के हुन्छ हुने लागि तर अनि वा यस|हो को "
    "मा",
}
_ENDINGS = {
    "marathi": ("च्या", "ाचा", "ाची", "ाचे", "ीचा", "ीची", "ीचे", "ांना", "ाला", "ीला", "ामध्ये",
                "ासाठी", "ातील", "ातून", "ावर", "ायला", "ण्याची", "ण्यासाठी", "तात", "तोस", "ेल"),
    "nepali": ("हरू", "हरु", "लाई", "हरूको", "मा", "को", "नुहोस्", "ेको", "न्छ", "न्छन्"),
}  # fmt: skip

_LATIN_WORD = re.compile(r"[a-zA-Z\u00c0-\u024f\u1e00-\u1eff]+")
_DEVANAGARI_WORD = re.compile(r"[\u0900-\u0963\u0966-\u097f]+")
# Least points of a language, of other Latin languages, and per word, which matters in long texts.
_LEAST_POINTS = {"english": 2.0, "hinglish": 4.0, "hindi": 1.0, "marathi": 1.0, "nepali": 1.0}
_LEAST_OF_OTHERS = 4.0
_A_WORD = 0.2


class Evidence(NamedTuple):
    """Evidence of a text's language.

    Attributes:
        script: script of most letters; "" without letters, "other" if not supported.
        language: language of the text, or "".
        sure: whether the evidence is strong.
        words: number of words.
        touched: languages with at least one word of the text.
    """

    script: str
    language: str = ""
    sure: bool = True
    words: int = 0
    touched: frozenset[str] = frozenset()


def evidence(text: str) -> Evidence:
    """Script and language of one text, judged alone."""
    script = _script(text)
    if script in _ONLY:
        return Evidence(script, _ONLY[script])
    if script == "latin":
        return _by_words(script, _LATIN_WORD.findall(text.lower()), _latin_points)
    if script == "devanagari":
        return _by_words(script, _DEVANAGARI_WORD.findall(text), _devanagari_points)
    for language, letters in _LETTERS.get(script, ()):
        if re.search(letters, text):
            return Evidence(script, language) if language else Evidence(OTHER)
    return Evidence(script, words=len(text.split()))


@dataclass(frozen=True)
class Languages:
    """Languages of a training table, for rows of any split without a language.

    Attributes:
        usual: most frequent language by script; the key "" covers all scripts.
        choices: languages that may be detected in a script, if train limits them.
        frequent: frequent languages of a script; others need more evidence.
        noise: languages with too few rows; such rows take the most frequent language.
        strict: scripts with text in other languages; rows of several words without a word of the
            most frequent language stay "unknown".
    """

    usual: Mapping[str, str]
    choices: Mapping[str, frozenset[str]]
    frequent: Mapping[str, frozenset[str]]
    noise: frozenset[str] = frozenset()
    strict: frozenset[str] = frozenset()

    @classmethod
    def of(cls, train: pd.DataFrame) -> "Languages":
        """Count the given and detected languages of the training rows, by script.

        If train gives the language of most rows of a script, only given languages are detected in
        it. If few rows of a script show a known language, its rows stay "unknown". If many of its
        rows resemble no known language, the script is strict.
        """
        rows = train.iloc[:: 1 + len(train) // ROWS_LEARNT]
        given: defaultdict[str, Counter[str]] = defaultdict(Counter)
        shown: defaultdict[str, Counter[str]] = defaultdict(Counter)
        unclear: defaultdict[str, Counter[frozenset[str]]] = defaultdict(Counter)
        for text, lang in zip(rows["text"], rows["lang"], strict=True):
            found = evidence(text)
            if lang != UNKNOWN_LANGUAGE:
                given[found.script][lang] += 1
                continue
            shown[found.script][found.language] += 1
            if found.script == OTHER or (not found.language and found.words >= SEVERAL):
                unclear[found.script][found.touched] += 1
        choices: dict[str, frozenset[str]] = {}
        frequent: dict[str, frozenset[str]] = {}
        usual: dict[str, str] = {}
        every: Counter[str] = Counter()
        strict: set[str] = set()
        foreign: Counter[str] = Counter()  # rows without a word of the usual language, by script
        for script in sorted({*given, *shown}):
            named, seen = given[script], shown[script]
            evident = Counter({language: n for language, n in seen.items() if language})
            if named.total() >= seen.total():
                choices[script] = frozenset(named)
            elif script and evident.total() < LEAST_EVIDENT * seen.total():
                choices[script] = frozenset()
            allowed = choices.get(script, frozenset(evident))
            known = named + Counter({k: n for k, n in evident.items() if k in allowed})
            every += known
            least = LEAST_FREQUENT * known.total()
            frequent[script] = frozenset(language for language, n in known.items() if n >= least)
            if known:
                usual[script] = known.most_common(1)[0][0]
            foreign[script] = sum(
                n for touched, n in unclear[script].items() if usual.get(script) not in touched
            )
            few = known.total() >= FEW_FOREIGN * (known.total() + foreign[script])
            if not few and named.total() < seen.total():
                strict.add(script)
        if 2 * every.total() >= every.total() + foreign.total() and every:
            usual[""] = every.most_common(1)[0][0]
            # Acronyms and names ("EMI") occur in every language.
            if "latin" not in usual and 2 * foreign["latin"] <= shown["latin"].total():
                usual["latin"] = usual[""]
                strict.add("latin")
        return cls(usual, choices, frequent, strict=frozenset(strict))

    def name(self, text: str) -> str:
        """Language of a text; "unknown" without evidence in the text or in train."""
        script, language, sure, words, touched = evidence(text)
        if script == OTHER:
            return UNKNOWN_LANGUAGE
        allowed = self.choices.get(script, (language,))
        plausible = sure or language in self.frequent.get(script, allowed)
        trusted = plausible and language in allowed and language not in self.noise
        if language and trusted:
            return language
        usual = self.usual.get(script, UNKNOWN_LANGUAGE)
        foreign = script in self.strict and words >= SEVERAL and usual not in touched
        return UNKNOWN_LANGUAGE if foreign else usual

    def fill(self, table: pd.DataFrame) -> tuple[pd.DataFrame, Counter[str]]:
        """Name the languages of the rows that lack one.

        Returns:
            The table, and the number of the named rows by language.
        """
        lacking = (table["lang"] == UNKNOWN_LANGUAGE).to_numpy(bool)
        if not lacking.any():
            return table, Counter()
        names = table["lang"].to_numpy(object).copy()
        names[lacking] = [self.name(text) for text in table["text"][lacking]]
        lang = pd.Series(names, table.index, dtype=table["lang"].dtype)
        return table.assign(lang=lang), Counter(names[lacking].tolist())


def name_languages(
    tables: Mapping[str, pd.DataFrame],
) -> tuple[dict[str, pd.DataFrame], Languages]:
    """Name the languages of all rows that lack one, by those of train, and log the counts.

    Args:
        tables: a table for each split; `train` is required.

    Returns:
        The tables, and the languages, for later rows.
    """
    languages = Languages.of(tables["train"])
    named, counts = _filled(tables, languages)
    least = min(LEAST_ROWS, LEAST_FREQUENT * counts.total())
    if noise := frozenset(language for language, n in counts.items() if n < least):
        languages = replace(languages, noise=noise)
        named, counts = _filled(tables, languages)
    if counts:
        told = ", ".join(f"{language} {count}" for language, count in counts.most_common())
        logger.info("languages detected: %s (set language or language_column to correct)", told)
    return named, languages


def _filled(
    tables: Mapping[str, pd.DataFrame], languages: Languages
) -> tuple[dict[str, pd.DataFrame], Counter[str]]:
    filled = {split: languages.fill(table) for split, table in tables.items()}
    counts: Counter[str] = Counter()
    for _, found in filled.values():
        counts += found
    return {split: table for split, (table, _) in filled.items()}, counts


def _script(text: str) -> str:
    if text.isascii():
        return "latin" if any(map(str.isalpha, text)) else ""
    counts = Counter(map(_script_of, text))
    del counts[""]
    latin = counts.pop("latin", 0)
    if not counts:
        return "latin" if latin else ""
    script, letters = counts.most_common(1)[0]
    return str(script) if letters >= _LATIN_SHARE * (letters + latin) else "latin"


@lru_cache(maxsize=2**12)
def _script_of(character: str) -> str:
    return _SCRIPTS.get(ord(character)) or (OTHER if character.isalpha() else "")


def _by_words(
    script: str, words: Sequence[str], points_of: Callable[[str], tuple[tuple[str, float], ...]]
) -> Evidence:
    """Evidence for the language with the most points, if these suffice and it leads alone.

    It is sure with more than twice the least points.
    """
    points: defaultdict[str, float] = defaultdict(float)
    for word in words:
        for language, value in points_of(word):
            points[language] += value
    nothing = Evidence(script, "", False, len(words), frozenset(points))
    if not points:
        return nothing
    best, most = max(points.items(), key=lambda item: item[1])
    least = max(_LEAST_POINTS.get(best, _LEAST_OF_OTHERS), _A_WORD * len(words))
    alone = list(points.values()).count(most) == 1
    if most < least or not alone:
        return nothing
    return nothing._replace(language=best, sure=most > 2 * least)


@lru_cache(maxsize=1)
def _word_points() -> dict[str, tuple[tuple[str, float], ...]]:
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for language, words in _WORDS.items():
        sure, _, shared = words.partition("|")
        for word in shared.split():
            found[word][language] = 0.5
        for word in sure.split():
            found[word][language] = _POINTS.get(language, 2.0)
    return {word: tuple(points.items()) for word, points in found.items()}


def _latin_points(word: str) -> tuple[tuple[str, float], ...]:
    return _word_points().get(word, ())


@lru_cache(maxsize=2**16)
def _devanagari_points(word: str) -> tuple[tuple[str, float], ...]:
    found = []
    for language, words in _DEVANAGARI.items():
        sure, _, shared = words.partition("|")
        if word in sure.split():
            found.append((language, 2.0))
        elif word in shared.split():
            found.append((language, 0.5))
        elif len(word) > 4 and word.endswith(_ENDINGS.get(language, ())):
            found.append((language, 1.0))
    return tuple(found)
