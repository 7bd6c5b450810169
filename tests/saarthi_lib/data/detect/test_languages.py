"""Languages of rows for which neither the file nor the configuration gives one."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect.languages import Languages, evidence, name_languages
from saarthi_lib.data.gather import gather
from saarthi_lib.data.preprocess import Prepared, prepare
from saarthi_lib.data.read import find_splits, read_table
from saarthi_lib.demo.home_assistant import write_home_assistant
from saarthi_lib.text.language_names import LANGUAGE_NAMES
from tests.conftest import reading, write_jsonl

REAL = Path(__file__).parents[5] / "shared" / "data"

SENTENCES = {
    "english": ["where is my parcel", "the card is not working", "please cancel the order"],
    "hinglish": ["mera parcel kahan hai", "card kaam nahi kar raha", "order cancel kar do bhai"],
    "hindi": ["मेरा पार्सल कहाँ है", "कार्ड काम नहीं कर रहा", "पंखा बंद कर दो"],
    "marathi": ["माझे पार्सल कुठे आहे", "कार्ड चालत नाही", "मला नवीन पत्ता सांगा"],
    "nepali": ["मेरो पार्सल कहाँ छ", "कार्ड चलेको छैन", "बत्ती निभाउनुहोस्"],
    "bengali": ["আমার পার্সেল কোথায়", "দরজা বন্ধ করো"],
    "assamese": ["মোৰ পাৰ্চেলটো ক'ত", "দুৱাৰখন বন্ধ কৰা"],
    "tamil": ["என் பார்சல் எங்கே"],
    "punjabi": ["ਮੇਰਾ ਪਾਰਸਲ ਕਿੱਥੇ ਹੈ"],
    "odia": ["ମୋ ପାର୍ସଲ କେଉଁଠାରେ"],
    "urdu": ["میرا پارسل کہاں ہے", "لائٹ بند کر دو ٹھیک ہے"],
    "arabic": ["أين طردي من فضلك", "لماذا لا تعمل البطاقة"],
    "german": ["wo ist mein Paket", "die Karte ist nicht da"],
    "portuguese": ["onde está o meu pacote", "não quero mais isso"],
}
POLISH = ["gdzie jest moja paczka", "karta nie działa", "chcę anulować zamówienie", "dziękuję"]


def table(texts: list[str], lang: str = "unknown") -> pd.DataFrame:
    content = {"text": texts, "lang": [lang] * len(texts)}
    return pa.table(content).to_pandas(types_mapper=pd.ArrowDtype)


def named(texts: list[str], train: pd.DataFrame | None = None) -> list[str]:
    languages = Languages.of(table(texts) if train is None else train)
    return list(languages.fill(table(texts))[0]["lang"])


@pytest.mark.parametrize("language", SENTENCES)
def test_language_is_detected_from_one_sentence(language: str) -> None:
    assert [evidence(text).language for text in SENTENCES[language]] == [language] * len(
        SENTENCES[language]
    )
    assert language in LANGUAGE_NAMES.values()


def test_hindi_words_with_nepali_endings_are_not_nepali() -> None:
    for text in ("बीमा नवीनीकरण", "मोहन शर्मा को Pune भेजो", "जमा खाता", "शर्मा जी"):
        assert evidence(text).language != "nepali"


def test_few_words_of_another_script_are_ignored() -> None:
    assert evidence("Netflix पर Stranger Things चलाओ").language == "hindi"


def test_rows_without_evidence_take_the_usual_language() -> None:
    train = table([*SENTENCES["english"], *SENTENCES["hindi"], "a card for me", "ठीक"])
    assert named(["EMI", "ठीक", "50%"], train) == ["english", "hindi", "english"]
    assert named(["EMI", "ok"]) == ["unknown", "unknown"]


def test_unsupported_language_stays_unknown() -> None:
    assert set(named(POLISH)) == {"unknown"}
    assert named(["please cancel the order"], table(POLISH)) == ["unknown"]


def numbered(texts: list[str], count: int) -> list[str]:
    return [f"{text} {n}" for n in range(count // len(texts)) for text in texts]


def test_unsupported_script_stays_unknown() -> None:
    thai = numbered(["เปิดไฟ", "ปิดพัดลม ห้องนอน"], 114)
    english = numbered(["turn on the wifi"], 6)
    train = table([*thai, *english])
    assert named([*thai, *english, "50%"], train) == ["unknown"] * 114 + ["english"] * 6 + [
        "unknown"
    ]
    assert named(["Πού είναι το δέμα μου;", "де моя посилка її"], train) == ["unknown"] * 2
    russian = table(["где мой заказ и что это", "мы не можем"] * 10)
    assert named(["привет", "де моя посилка її"], russian) == ["russian", "unknown"]


def test_other_languages_of_a_script_stay_unknown() -> None:
    english = numbered(SENTENCES["english"], 39)
    tamil = numbered(["en parcel enga irukku", "panam eppo varum", "card velai seyyavillai"], 39)
    polish = numbered(POLISH[:3], 39)
    train = table([*english, *tamil, *polish])
    assert set(named(english, train)) == {"english"}
    assert set(named([*tamil, *polish], train)) == {"unknown"}
    assert set(named(tamil, table([*english, *tamil]))) == {"unknown"}
    assert named(["EMI", "card lost"], train) == ["english", "english"]

    few = table([*english, *numbered(["mattress size chart", "pillow price list"], 10)])
    assert named(["mattress size chart", "blanket colour list"], few) == ["english", "english"]


def test_acronyms_take_the_usual_language_of_train() -> None:
    hindi = numbered(SENTENCES["hindi"], 39)
    acronyms = numbered(["EMI"], 20)
    train = table([*hindi, *acronyms])
    assert named([*acronyms, "KYC update"], train) == ["hindi"] * 21
    assert named(["gdzie jest moja paczka", "привет"], train) == ["unknown", "unknown"]
    assert set(named(POLISH, table([*hindi, *POLISH * 5]))) == {"unknown"}


def test_given_language_wins_over_a_similar_one() -> None:
    konkani = table(["म्हजें पार्सल खंय आसा", "कार्ड चलना"], "konkani")
    assert named(["माझे पार्सल कुठे आहे"], konkani) == ["konkani"]


def test_few_doubtful_rows_are_noise() -> None:
    train = table([f"{text} {number}" for number in range(60) for text in SENTENCES["english"]])
    assert named(["play the song by Mere"], train) == ["english"]
    assert named([SENTENCES["hinglish"][0]], train) == ["hinglish"]


def test_all_splits_and_transfer_get_languages(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    rows = [
        {"text": f"{text} {number}", "label": label}
        for number in range(6)
        for language in ("english", "hindi")
        for label, text in zip("abc", SENTENCES[language], strict=True)
    ]
    write_jsonl(folder / "train.jsonl", rows)
    test = [{"text": "पंखा", "label": "a"}, {"text": "fan", "label": "b", "lang": "german"}]
    write_jsonl(folder / "test.jsonl", test)
    (folder / "transfer.txt").write_text("पार्सल\nthe parcel\n", encoding="utf-8")
    config = TrainConfig.from_mapping(
        {
            "input_path": str(folder),
            "teacher_name": "minilm",
            "augmentation_size": 0,
            "vocabulary_extra_tokens": 0,
        }
    )
    (tmp_path / "data").mkdir()
    summary, _ = prepare(config, tmp_path / "data")

    assert summary["languages"]["test"] == {"german": 1, "hindi": 1}
    assert set(summary["languages"]["train"]) == {"english", "hindi"}
    assert list(Prepared(tmp_path / "data").table("transfer")["lang"]) == ["hindi", "english"]
    assert "languages detected: hindi 19, english 18 (set language" in told.text

    given = config.model_copy(update={"language": "english"})
    assert set(gather(folder, given).tables["train"]["lang"]) == {"english"}


@pytest.mark.parametrize(
    ("file", "task", "language", "least"),
    [
        ("hint3_sofmattress/train.csv", "intent_classification", "english", 0.99),
        ("hint3_sofmattress/test.csv", "intent_classification", "english", 0.99),
        ("snips_en/test.jsonl", "intent_classification", "english", 0.99),
        ("hinglish_top/validation.jsonl", "intent_classification", "hinglish", 0.98),
        ("il_ner_hindi/validation.conll", "ner", "hindi", 0.99),
        ("ud_pud/hindi.conllu", "pos", "hindi", 0.99),
        ("ud_pud/english.conllu", "pos", "english", 0.99),
        ("ud_marathi_ufal/train.conllu", "pos", "marathi", 0.99),
        ("ud_marathi_ufal/test.conllu", "pos", "marathi", 0.97),
    ],
)
def test_languages_of_real_data(file: str, task: str, language: str, least: float) -> None:
    if not (REAL / file).is_file():
        pytest.skip(f"no {REAL / file}")
    split = Path(file)
    train = split.with_name(f"train{split.suffix}")
    options = reading(task, max_malformed_share=1)

    def hidden(path: Path) -> pd.DataFrame:
        return table(list(read_table(path, options)["text"]))

    rows = hidden(REAL / split)
    learnt = hidden(REAL / train) if (REAL / train).is_file() else rows
    found = Languages.of(learnt).fill(rows)[1]
    assert found[language] >= least * len(rows)


def test_languages_of_the_demonstration_data(tmp_path: Path) -> None:
    write_home_assistant(tmp_path)
    wrong = rows = 0
    options = reading("intent_classification")
    tables = {
        split: pd.concat([read_table(file, options) for file in files])
        for split, files in find_splits(tmp_path).items()
        if split != "transfer"
    }
    languages = Languages.of(table(list(tables["train"]["text"])))
    for split in tables.values():
        found = languages.fill(table(list(split["text"])))[0]
        wrong += int((found["lang"].to_numpy() != split["lang"].to_numpy()).sum())
        rows += len(split)
    assert wrong <= 0.005 * rows


def test_language_of_few_rows_becomes_the_usual_one() -> None:
    hindi = [f"{text} {number}" for number in range(250) for text in SENTENCES["hindi"]]
    tables = {"train": table([*hindi, SENTENCES["marathi"][0], *SENTENCES["english"]])}
    [(_, train)] = name_languages(tables)[0].items()
    assert dict(train["lang"].value_counts()) == {"hindi": 751, "english": 3}
