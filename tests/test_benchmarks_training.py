"""The benchmarks of training and of cold start run and print their tables."""

import importlib
from pathlib import Path

import pytest

from saarthi_lib.errors import DataError
from tests.benchmark_scripts import ROOT, printed
from tests.conftest import write_jsonl

ITEM = {"start": 5, "end": 9, "label": "thing"}


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        (
            "training.py",
            ("### Fine-tuning the teacher", "### The five stages", "teacher fine-tuning: ", "sum"),
        ),
        (
            "cold_start.py",
            ("### Cold start", "### Memory", "library, ONNX Runtime", "first POST /predict"),
        ),
    ],
)
@pytest.mark.slow
def test_it_prints_its_tables(script: str, lines: tuple[str, ...]) -> None:
    output = printed(script, "--quick")

    assert [line for line in lines if line not in output] == []
    assert "goal at least" in output or "at most" in output


@pytest.mark.slow
def test_the_quality_benchmark_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "orders"
    folder.mkdir(parents=True)
    for split, numbers in (("train", range(40)), ("valid", range(40, 48))):
        rows = [
            {
                "text": f"{verb} item {number} now",
                "intent": verb,
                "entities": [ITEM],
                "lang": "english",
            }
            for number in numbers
            for verb in ("play", "stop")
        ]
        write_jsonl(folder / f"{split}.jsonl", rows)
    # A set that cannot be trained is reported; the other sets still get their table.
    (broken := folder.parent / "broken").mkdir()
    row = {"text": "play it", "intent": "play", "entities": [], "lang": "english"}
    write_jsonl(broken / "train.jsonl", [row])  # no rows for validation
    work = tmp_path / "work"
    given = ("--data", str(folder.parent), "--work", str(work), "--set", "task=joint", "--quick")
    output = printed("quality.py", *given, code=1)

    assert "### broken" not in output
    # Without a test file, the validation rows are the test rows.
    assert "### orders: 16 test examples" in output
    for model in ("teacher", "labels alone", "one stage, all losses", "five stages, int8"):
        assert f"| {model} |" in output
    assert "kept of the teacher" in output
    assert "| times faster | than XLM-R-base-sized |" in output
    made = {path: path.stat().st_mtime_ns for path in work.rglob("step.json")}
    again = printed("quality.py", *given, "--sets", "orders")
    assert {path: path.stat().st_mtime_ns for path in work.rglob("step.json")} == made
    assert again.splitlines()[-1] == output.splitlines()[-1]

    output = printed("decoding.py", "--work", str(work), "--split", "test")
    assert "| orders | teacher | 1 | 16 |" in output
    assert "| orders | five stages, int8 | 1 | 16 |" in output


@pytest.mark.slow
def test_peers_of_labels_tags_and_both(tmp_path: Path) -> None:
    for name, task in (("hint3_small", "label"), ("slots", "tags"), ("orders", "both")):
        (folder := tmp_path / "data" / name).mkdir(parents=True)
        for split, numbers in (("train", range(40)), ("valid", range(40, 48))):
            rows = [
                {
                    "text": f"{verb} item {number} now",
                    "lang": "english",
                    **({"intent": verb} if task != "tags" else {}),
                    **({"entities": [ITEM]} if task != "label" else {}),
                }
                for number in numbers
                for verb in ("play", "stop")
            ]
            if split == "valid" and task == "label":
                rows += [{**row, "text": f"who won {row['text']}", "intent": "no"} for row in rows]
            write_jsonl(folder / f"{split}.jsonl", rows)
    given = ("--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), "--quick")
    output = printed("peers.py", *given, "--encoder", "minilm")

    labels, frames, tags = output.split("\n### ")[1:]
    assert labels.startswith("hint3_small: 16 test examples")  # those in scope
    for peer in ("TF-IDF", "frozen encoder"):
        assert f"| {peer} + logistic regression | " in labels
    assert "mcc, its own threshold" in labels and "mcc, the test's best threshold" in labels
    assert "SetFit: skipped" in output
    assert "| TF-IDF + logistic regression, linear tagger | " in frames
    assert "| main | accuracy | span_f1 | training s |" in frames
    assert "| linear tagger | " in tags
    assert ("| CRF | " in tags) != ("CRF: skipped" in output)


@pytest.mark.parametrize(
    ("task", "language", "rows", "teacher", "width"),
    [
        ("joint", "english", 5_001, "minilm", 256),
        ("joint", "hindi", 5_001, "multilingual-e5-small", 256),
        ("joint", "english", 10, "minilm", 128),
        ("ner", "hindi", 5_001, "multilingual-e5-small", 128),
    ],
)
def test_the_quality_benchmark_goes_by_task_language_and_rows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    language: str,
    rows: int,
    teacher: str,
    width: int,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    config_of = importlib.import_module("quality").config_of
    row = {"text": "play it", "intent": "play", "entities": [], "lang": language}
    write_jsonl(tmp_path / "train.jsonl", [row] * rows)

    config = config_of("another", {"input_path": str(tmp_path), "task": task})

    assert (config.teacher_name, config.student_lstm_dim) == (teacher, width)
    given = {"input_path": str(tmp_path), "task": task, "teacher_name": "bert-base-uncased"}
    assert config_of("another", given).teacher_ensemble == 1


@pytest.mark.parametrize("task", ["ner", "intent_classification"])
def test_an_ablation_trains_what_it_has_not_in_common_with_the_five_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    quality = importlib.import_module("quality")
    config = quality.TrainConfig(input_path=str(tmp_path), root_output_path="unused", task=task)

    arms = quality.ablation(config)

    assert ("with stage 1" in arms) == (task == "intent_classification")
    assert [quality.differs_at(fields, config) for fields in arms.values()] == [1, 2, 3, 4, 5, 1]
    given = config.model_copy(update={"distillation_stages": [1, 3]})
    arms = quality.ablation(given)
    assert arms["without stage 3"] == {"distillation_stages": [1]}
    assert [quality.differs_at(fields, given) for fields in arms.values()] == [1, 2, 3, 4, 5, 1]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hint3_curekart", {"language": "english"}),
        ("il_ner_tamil", {"language": "tamil"}),
        ("ud_hindi_hdtb", {"language": "hindi"}),
        ("ud_pud", {"group_column": "sent_id"}),
        ("another", {}),
    ],
)
def test_the_name_of_a_set_tells_what_files_do_not(
    monkeypatch: pytest.MonkeyPatch, name: str, told: dict[str, str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    assert importlib.import_module("quality").told_by(name) == told


@pytest.mark.parametrize(
    ("file", "content", "task"),
    [
        ("train.csv", "sentence,label\nplay it,play\n", "intent_classification"),
        ("train.jsonl", '{"text": "play it", "intent": "play", "entities": []}\n', "joint"),
        ("train.jsonl", '{"text": "play it", "entities": []}\n', "ner"),
        ("train.json", '[{"tokens": ["play", "it"], "ner_tags": ["O", "B-song"]}]', "ner"),
        ("train.json", '[{"tokens": ["play", "it"], "pos_tags": ["VERB", "PRON"]}]', "pos"),
        ("train.conll", "play\tO\nit\tB-song\n\n", "ner"),
        ("train.conll", "# intent = play\nplay\tO\nit\tB-song\n\n", "joint"),
        ("train.conllu", "1\tplay\tplay\tVERB\t_\t_\t0\troot\t_\t_\n\n", "pos"),
        ("train.csv", "sentence\nplay it\n", None),
        ("train.jsonl", "", None),
    ],
)
def test_the_first_row_of_a_set_tells_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str, task: str | None
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    task_of = importlib.import_module("quality").task_of
    (tmp_path / file).write_text(content, encoding="utf-8")

    if task:
        assert task_of(tmp_path) == task
    else:
        with pytest.raises(DataError, match=rf"{file}: .*no label and no tags; give the task"):
            task_of(tmp_path)


@pytest.fixture
def houses(tmp_path: Path) -> Path:
    folder = tmp_path / "snips_en"
    folder.mkdir()
    things = ("lamps", "curtains", "oven", "heater", "window", "door", "garage", "kettle", "radio")
    rows = [
        {
            "text": f"{verb} the {thing} {when}",
            "intent": verb,
            "entities": [{"start": 0, "end": len(verb), "label": "verb"}],
            "lang": "english",
        }
        for verb in ("open", "close", "switch")
        for thing in things
        for when in ("tomorrow", "tonight", "later", "immediately")
    ]
    write_jsonl(folder / "train.jsonl", rows[::5])
    return tmp_path


@pytest.mark.slow
def test_the_vocabulary_benchmark_counts_the_new_words_that_stay_whole(houses: Path) -> None:
    sets = ("--sets", "snips_en", "hint3_sofmattress")
    output = printed("vocabulary.py", "--data", str(houses), *sets, "--extra", "500")

    assert "### Whole words of the other half, 500 further pieces" in output
    assert "hint3_sofmattress: skipped" in output
    (row,) = (line for line in output.splitlines() if line.startswith("| snips_en | english |"))
    none, *_, by_table = (float(cell) for cell in row.strip("| ").split(" | ")[3:])
    assert none <= by_table <= 100


@pytest.mark.slow
def test_the_vocabulary_benchmark_takes_pieces_from_a_teacher(houses: Path) -> None:
    options = ("--data", str(houses), "--sets", "snips_en", "--teachers", "--extra", "500", "0")
    output = printed("vocabulary.py", *options)

    assert "| set | train | unseen | 0 further | 500 further |" in output
    (row,) = (line for line in output.splitlines() if line.startswith("| snips_en |"))
    train, unseen, *mains = (float(cell) for cell in row.strip("| ").split(" | ")[1:])
    assert 0 < unseen < train < 22
    # Verbs have the same position in all rows, with few subword tokens and with many.
    assert min(mains) > 50
