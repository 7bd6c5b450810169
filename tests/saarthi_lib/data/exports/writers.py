"""Writers of small exports: the same rows in the format of each tool."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow

CITIES = ["Rome", "Oslo", "New Delhi", "Cairo", "Lima", "São Paulo", "Quito", "Riga"]
NAMES = ["Asha", "Ben", "Chen", "Dora", "Emil", "Farah", "Gita", "Hugo"]

Row = dict[str, Any]
Writer = Callable[[Path, list[Row]], None]


def base_rows() -> list[Row]:
    """Rows of two intents, one of them with an entity."""
    rows: list[Row] = []
    for city, name in zip(CITIES, NAMES, strict=True):
        text = f"fly to {city} today"
        span = {"start": 7, "end": 7 + len(city), "label": "city"}
        rows.append({"text": text, "intent": "book", "entities": [span]})
        rows.append({"text": f"hello my name is {name}", "intent": "greet", "entities": []})
    return rows


def parts_of(row: Row) -> list[tuple[str, str]]:
    """Parts of a text, each with the label of its entity or ""."""
    parts, end = [], 0
    for each in row["entities"]:
        parts += [(row["text"][end : each["start"]], "")]
        parts += [(row["text"][each["start"] : each["end"]], each["label"])]
        end = each["end"]
    return [part for part in [*parts, (row["text"][end:], "")] if part[0]]


def tags_of(row: Row) -> tuple[list[str], list[str]]:
    """Words between spaces, and BIO tags."""
    words: list[str] = []
    tags: list[str] = []
    for part, label in parts_of(row):
        for at, word in enumerate(part.split()):
            words.append(word)
            tags.append(f"{'I' if at else 'B'}-{label}" if label else "O")
    return words, tags


def by_intent(rows: list[Row]) -> dict[str, list[Row]]:
    intents: dict[str, list[Row]] = {}
    for row in rows:
        intents.setdefault(row["intent"], []).append(row)
    return intents


def write(path: Path, content: Any) -> Path:
    """Write text, or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


def write_lines(path: Path, rows: list[Any]) -> Path:
    return write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def marked(row: Row) -> str:
    """A text with the markup of Rasa."""
    return "".join(f"[{part}]({label})" if label else part for part, label in parts_of(row))


def rasa(folder: Path, rows: list[Row]) -> None:
    blocks = [
        f"- intent: {intent}\n  examples: |\n"
        + "".join(f"    - {marked(row)}\n" for row in of_intent)
        for intent, of_intent in by_intent(rows).items()
    ]
    write(folder / "data/nlu.yml", 'version: "3.1"\nnlu:\n' + "".join(blocks))
    write(folder / "domain.yml", 'version: "3.1"\nintents:\n- book\n- greet\n')
    write(folder / "data/stories.yml", "stories:\n- story: s\n  steps:\n  - intent: greet\n")


def rasa_markdown(folder: Path, rows: list[Row]) -> None:
    text = "".join(
        f"## intent:{intent}\n" + "".join(f"- {marked(row)}\n" for row in of_intent) + "\n"
        for intent, of_intent in by_intent(rows).items()
    )
    write(folder / "nlu.md", text)


def rasa_json(folder: Path, rows: list[Row]) -> None:
    examples = [
        {
            "text": row["text"],
            "intent": row["intent"],
            "entities": [
                {
                    "start": each["start"],
                    "end": each["end"],
                    "entity": each["label"],
                    "value": row["text"][each["start"] : each["end"]],
                }
                for each in row["entities"]
            ],
        }
        for row in rows
    ]
    write(folder / "nlu.json", {"rasa_nlu_data": {"common_examples": examples}})


def dialogflow_es(folder: Path, rows: list[Row]) -> None:
    write(folder / "agent.json", {"language": "en", "defaultTimezone": "Europe/Paris"})
    for intent, of_intent in by_intent(rows).items():
        about = {"id": "1", "name": intent, "contexts": [], "responses": [{}], "events": []}
        write(folder / f"intents/{intent}.json", about)
        phrases = [
            {
                "id": str(at),
                "data": [
                    {"text": part, "userDefined": bool(label)}
                    | ({"meta": f"@{label}", "alias": label} if label else {})
                    for part, label in parts_of(row)
                ],
                "isTemplate": False,
                "count": 0,
                "updated": 1,
            }
            for at, row in enumerate(of_intent)
        ]
        write(folder / f"intents/{intent}_usersays_en.json", phrases)


def dialogflow_cx(folder: Path, rows: list[Row]) -> None:
    for intent, of_intent in by_intent(rows).items():
        about = {"name": "0-1", "displayName": intent, "priority": 500000}
        write(folder / f"intents/{intent}/{intent}.json", about)
        phrases = [
            {
                "id": str(at),
                "parts": [
                    {"text": part, "auto": True} | ({"parameterId": label} if label else {})
                    for part, label in parts_of(row)
                ],
                "repeatCount": 1,
                "languageCode": "en",
            }
            for at, row in enumerate(of_intent)
        ]
        path = folder / f"intents/{intent}/trainingPhrases/en.json"
        write(path, {"trainingPhrases": phrases})


def luis(folder: Path, rows: list[Row]) -> None:
    utterances = [
        {
            "text": row["text"],
            "intent": row["intent"],
            "entities": [
                {"entity": e["label"], "startPos": e["start"], "endPos": e["end"] - 1}
                for e in row["entities"]
            ],
        }
        for row in rows
    ]
    content = {"luis_schema_version": "7.0.0", "culture": "en-us", "utterances": utterances}
    write(folder / "app.json", content)


def clu(folder: Path, rows: list[Row]) -> None:
    utterances = [
        {
            "text": row["text"],
            "intent": row["intent"],
            "language": "en",
            "dataset": "Train",
            "entities": [
                {"category": e["label"], "offset": e["start"], "length": e["end"] - e["start"]}
                for e in row["entities"]
            ],
        }
        for row in rows
    ]
    content = {
        "projectFileVersion": "2022-10-01-preview",
        "stringIndexType": "Utf16CodeUnit",
        "metadata": {"projectKind": "Conversation", "language": "en"},
        "assets": {"projectKind": "Conversation", "utterances": utterances, "entities": []},
    }
    write(folder / "project.json", content)


def label_studio(folder: Path, rows: list[Row]) -> None:
    tasks = []
    for at, row in enumerate(rows, 1):
        choice = {"type": "choices", "from_name": "intent", "to_name": "text"}
        results = [{**choice, "value": {"choices": [row["intent"]]}}]
        for each in row["entities"]:
            covered = row["text"][each["start"] : each["end"]]
            value = {"start": each["start"], "end": each["end"], "text": covered}
            label = {"type": "labels", "from_name": "label", "to_name": "text"}
            results.append({**label, "value": {**value, "labels": [each["label"]]}})
        annotation = {"id": at, "was_cancelled": False, "result": results}
        task = {"id": at, "data": {"text": row["text"]}, "annotations": [annotation]}
        tasks.append({**task, "predictions": []})
    write(folder / "project-1-at-2024.json", tasks)


def label_studio_min(folder: Path, rows: list[Row]) -> None:
    tasks = []
    for at, row in enumerate(rows, 1):
        task = {"id": at, "annotator": 1, "annotation_id": at, "lead_time": 2.5}
        task |= {"text": row["text"], "intent": row["intent"]}
        spans = [
            {
                "start": each["start"],
                "end": each["end"],
                "text": row["text"][each["start"] : each["end"]],
                "labels": [each["label"]],
            }
            for each in row["entities"]
        ]
        tasks.append(task | ({"label": spans} if spans else {}))
    write(folder / "project-min.json", tasks)


def label_studio_csv(folder: Path, rows: list[Row]) -> None:
    about = ["annotation_id", "annotator", "created_at", "id", "lead_time", "updated_at"]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "project.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow([*about, "entities", "intent", "text"])
        for at, row in enumerate(rows, 1):
            spans = [
                {
                    "start": each["start"],
                    "end": each["end"],
                    "text": row["text"][each["start"] : each["end"]],
                    "labels": [each["label"]],
                }
                for each in row["entities"]
            ]
            cells = [at, "1", "2024", at, 2.5, "2024", json.dumps(spans) if spans else ""]
            writer.writerow([*cells, row["intent"], row["text"]])


def doccano(folder: Path, rows: list[Row]) -> None:
    write_lines(
        folder / "all.jsonl",
        [
            {
                "id": at,
                "text": row["text"],
                "cats": [row["intent"]],
                "entities": [
                    [each["start"], each["end"], each["label"]] for each in row["entities"]
                ],
                "Comments": [],
            }
            for at, row in enumerate(rows)
        ],
    )


def doccano_labels(folder: Path, rows: list[Row]) -> None:
    labelled = [
        {"id": at, "text": row["text"], "label": [row["intent"]], "Comments": []}
        for at, row in enumerate(rows)
    ]
    write_lines(folder / "admin.jsonl", labelled)


def intents_json(folder: Path, rows: list[Row]) -> None:
    patterns: dict[str, list[str]] = {}
    for row in rows:
        patterns.setdefault(row["intent"], []).append(row["text"])
    intents = [{"tag": tag, "patterns": each, "responses": []} for tag, each in patterns.items()]
    write(folder / "intents.json", {"intents": intents})


def spacy_categories(folder: Path, rows: list[Row]) -> None:
    names = {row["intent"] for row in rows}
    labelled = [
        {"text": row["text"], "cats": {name: float(name == row["intent"]) for name in names}}
        for row in rows
    ]
    write_lines(folder / "textcat.jsonl", labelled)


def doccano_csv(folder: Path, rows: list[Row]) -> None:
    lines = [f"{at},{row['text']},{row['intent']},[]\n" for at, row in enumerate(rows)]
    write(folder / "all.csv", "id,text,label,Comments\n" + "".join(lines))


def doccano_fasttext(folder: Path, rows: list[Row]) -> None:
    lines = [f"__label__{row['intent']} {row['text']}\n" for row in rows]
    write(folder / "all.txt", "".join(lines))


def prodigy(folder: Path, rows: list[Row]) -> None:
    write_lines(
        folder / "annotations.jsonl",
        [
            {
                "text": row["text"],
                "_input_hash": at,
                "_task_hash": -at,
                "options": [{"id": "book", "text": "Book"}, {"id": "greet", "text": "Greet"}],
                "accept": [row["intent"]],
                "spans": row["entities"],
                "answer": "accept",
            }
            for at, row in enumerate(rows)
        ],
    )


def wit(folder: Path, rows: list[Row]) -> None:
    utterances = [
        {
            "text": row["text"],
            "intent": row["intent"],
            "entities": [
                {
                    "entity": f"{each['label']}:{each['label']}",
                    "start": each["start"],
                    "end": each["end"],
                    "body": row["text"][each["start"] : each["end"]],
                    "entities": [],
                }
                for each in row["entities"]
            ],
            "traits": [],
        }
        for row in rows
    ]
    write(folder / "utterances/utterances-1.json", {"utterances": utterances})


def snips(folder: Path, rows: list[Row]) -> None:
    blocks = []
    for intent, of_intent in by_intent(rows).items():
        lines = [
            "".join(
                f"[{label}:{label}]({part})" if label else part for part, label in parts_of(row)
            )
            for row in of_intent
        ]
        listed = "".join(f'  - "{line}"\n' for line in lines)
        blocks.append(f"---\ntype: intent\nname: {intent}\nutterances:\n{listed}")
    write(folder / "dataset.yaml", "".join(blocks))


def snips_json(folder: Path, rows: list[Row]) -> None:
    intents = {
        intent: {
            "utterances": [
                {
                    "data": [
                        {"text": part} | ({"entity": label, "slot_name": label} if label else {})
                        for part, label in parts_of(row)
                    ]
                }
                for row in of_intent
            ]
        }
        for intent, of_intent in by_intent(rows).items()
    }
    entity = {"data": [], "use_synonyms": True}
    content = {"language": "en", "intents": intents, "entities": {"city": entity}}
    write(folder / "dataset.json", content)


def spacy(folder: Path, rows: list[Row]) -> None:
    documents = []
    for at, row in enumerate(rows):
        words, tags = tags_of(row)
        tokens = [
            {"id": n, "orth": word, "ner": tag}
            for n, (word, tag) in enumerate(zip(words, tags, strict=True))
        ]
        cats = [
            {"label": label, "value": int(label == row["intent"])} for label in ("book", "greet")
        ]
        paragraph = {"raw": row["text"], "sentences": [{"tokens": tokens}], "cats": cats}
        documents.append({"id": at, "paragraphs": [paragraph]})
    write(folder / "train.json", documents)


def spacy_tuples(folder: Path, rows: list[Row]) -> None:
    pairs = [
        [
            row["text"],
            {
                "entities": [
                    [each["start"], each["end"], each["label"]] for each in row["entities"]
                ],
                "cats": {label: float(label == row["intent"]) for label in ("book", "greet")},
            },
        ]
        for row in rows
    ]
    write(folder / "train.json", pairs)


def _hugging_face_rows(rows: list[Row]) -> tuple[list[Row], Row]:
    names, intents = ["O", "B-city", "I-city"], ["book", "greet"]
    found = []
    for row in rows:
        words, tags = tags_of(row)
        numbers = [names.index(tag) for tag in tags]
        intent = intents.index(row["intent"])
        found.append({"tokens": words, "ner_tags": numbers, "intent": intent})
    label = {"names": names, "_type": "ClassLabel"}
    features = {
        "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
        "ner_tags": {"feature": label, "_type": "Sequence"},
        "intent": {"names": intents, "_type": "ClassLabel"},
    }
    return found, {"features": features}


def hugging_face(folder: Path, rows: list[Row]) -> None:
    found, info = _hugging_face_rows(rows)
    write(folder / "dataset_dict.json", {"splits": ["train"]})
    write(folder / "train/dataset_info.json", info)
    path = folder / "train/data-00000-of-00001.arrow"
    write(folder / "train/state.json", {"_data_files": [{"filename": path.name}]})
    table = pyarrow.Table.from_pylist(found)
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)


def hugging_face_json(folder: Path, rows: list[Row]) -> None:
    found, info = _hugging_face_rows(rows)
    write(folder / "dataset_info.json", info)
    write_lines(folder / "train.json", found)


def massive(folder: Path, rows: list[Row]) -> None:
    write_lines(
        folder / "en-US.jsonl",
        [
            {
                "id": str(at),
                "locale": "en-US",
                "partition": "train",
                "scenario": "travel",
                "intent": row["intent"],
                "utt": row["text"],
                "annot_utt": "".join(
                    f"[{label} : {part}]" if label else part for part, label in parts_of(row)
                ),
            }
            for at, row in enumerate(rows)
        ],
    )


def multiatis(folder: Path, rows: list[Row]) -> None:
    lines = ["id\tutterance\tslot_labels\tintent\n"]
    for at, row in enumerate(rows):
        words, tags = tags_of(row)
        lines.append(f"{at}\t{' '.join(words)}\t{' '.join(tags)}\t{row['intent']}\n")
    write(folder / "train_EN.tsv", "".join(lines))


def atis(folder: Path, rows: list[Row]) -> None:
    lines = []
    for row in rows:
        words, tags = tags_of(row)
        lines.append(f"BOS {' '.join(words)} EOS\tO {' '.join(tags)} {row['intent']}\n")
    write(folder / "atis.train.w-intent.iob", "".join(lines))


def atis_blocks(folder: Path, rows: list[Row]) -> None:
    lines = []
    for row in rows:
        lines += [f"{word} {tag}\n" for word, tag in zip(*tags_of(row), strict=True)]
        lines.append(f"{row['intent']}\n\n")
    write(folder / "train.txt", "".join(lines))


def atis_frames(folder: Path, rows: list[Row]) -> None:
    lines = []
    for row in rows:
        lines.append("BOS\tO\n")
        lines += [f"{word}\t{tag}\n" for word, tag in zip(*tags_of(row), strict=True)]
        lines.append(f"EOS\t{row['intent']}\n\n")
    write(folder / "train.conll", "".join(lines))


def germeval(folder: Path, rows: list[Row]) -> None:
    text = ""
    for row in rows:
        text += "#\thttp://example.org/ [2009-10-17]\n"
        for at, (word, tag) in enumerate(zip(*tags_of(row), strict=True), 1):
            text += f"{at}\t{word}\t{tag}\tO\n"
        text += "\n"
    write(folder / "NER-de-train.tsv", text)


def lex(folder: Path, rows: list[Row]) -> None:
    """Templates instead of texts: cities are the values of a slot type."""
    locale = folder / "Bot/BotLocales/en_US"
    greetings = [row["text"] for row in rows if row["intent"] == "greet"]
    write(locale / "Intents/greet/Intent.json", _lex_intent("greet", greetings))
    templates = ["fly to {city} today", "a ticket to {city} please", "book {city}"]
    write(locale / "Intents/book/Intent.json", _lex_intent("book", templates))
    slot = {"name": "city", "slotTypeName": "Cities"}
    write(locale / "Intents/book/Slots/city/Slot.json", slot)
    values = [{"sampleValue": {"value": city}} for city in CITIES]
    types = {"name": "Cities", "slotTypeValues": values}
    write(locale / "SlotTypes/Cities/SlotType.json", types)


def lex_v1(folder: Path, rows: list[Row]) -> None:
    greetings = [row["text"] for row in rows if row["intent"] == "greet"]
    templates = ["fly to {city} today", "a ticket to {city} please", "book {city}"]
    slots = [{"name": "city", "slotType": "Cities", "sampleUtterances": ["to {city}"]}]
    values = [{"value": city, "synonyms": []} for city in CITIES]
    bot = {
        "name": "Bot",
        "locale": "en-US",
        "intents": [
            {"name": "greet", "sampleUtterances": greetings, "slots": []},
            {"name": "book", "sampleUtterances": templates, "slots": slots},
            {"name": "help", "sampleUtterances": [], "slots": []},
        ],
        "slotTypes": [{"name": "Cities", "enumerationValues": values}],
    }
    about = {"schemaVersion": "1.0", "importType": "LEX", "importFormat": "JSON"}
    write(folder / "Bot_Export.json", {"metadata": about, "resource": bot})


def ner_annotator(folder: Path, rows: list[Row]) -> None:
    """Entities only; null stands for a text that was left out."""
    annotated = [
        [row["text"], {"entities": [[e["start"], e["end"], e["label"]] for e in row["entities"]]}]
        for row in rows
    ]
    write(folder / "annotations.json", {"classes": ["city"], "annotations": [*annotated, None]})


def _lex_intent(name: str, utterances: list[str]) -> Row:
    return {"name": name, "sampleUtterances": [{"utterance": text} for text in utterances]}


SPANS: dict[str, Writer] = {  # exports with intents and entities with offsets
    writer.__name__: writer
    for writer in (
        *(rasa, rasa_markdown, rasa_json, dialogflow_es, dialogflow_cx, luis, clu),
        *(label_studio, label_studio_min, label_studio_csv, doccano, prodigy, wit, snips),
        *(snips_json, spacy_tuples, massive),
    )
}
TAGS: dict[str, Writer] = {  # exports with intents and a tag for each word
    writer.__name__: writer
    for writer in (
        *(spacy, hugging_face, hugging_face_json, multiatis),
        *(atis, atis_blocks, atis_frames),
    )
}
LABELS: dict[str, Writer] = {  # exports with labels only
    writer.__name__: writer
    for writer in (
        *(doccano_labels, doccano_csv, doccano_fasttext),
        *(intents_json, spacy_categories),
    )
}
