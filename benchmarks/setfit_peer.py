"""Train SetFit and answer texts; benchmarks/peers.py runs it in an environment of its own.

python benchmarks/setfit_peer.py ROWS.json ANSWERS.json
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def main() -> None:
    """Read rows, train, and write label and probability of each text that is asked."""
    given, out = (Path(argument) for argument in sys.argv[1:3])
    rows = json.loads(given.read_text(encoding="utf-8"))
    out.write_text(json.dumps(answers_of(rows), ensure_ascii=False), encoding="utf-8")


def answers_of(rows: dict[str, Any]) -> dict[str, tuple[str, float]]:
    """Label and probability of each text of `asked`; pairs as in the paper, R = `iterations`."""
    setfit, datasets = import_module("setfit"), import_module("datasets")
    model = setfit.SetFitModel.from_pretrained(rows["encoder"])
    texts = [rows["prefix"] + text for text in rows["texts"]]
    with TemporaryDirectory() as scratch:
        arguments = setfit.TrainingArguments(
            output_dir=scratch,
            batch_size=16,
            num_epochs=1,
            num_iterations=rows["iterations"],
            seed=rows["seed"],
            save_strategy="no",
            report_to="none",
        )
        train = datasets.Dataset.from_dict({"text": texts, "label": rows["labels"]})
        setfit.Trainer(model=model, args=arguments, train_dataset=train).train()
    asked = rows["asked"]
    scores = model.predict_proba([rows["prefix"] + text for text in asked], as_numpy=True)
    names = model.model_head.classes_
    return {
        text: (str(names[each.argmax()]), float(each.max()))
        for text, each in zip(asked, scores, strict=True)
    }


if __name__ == "__main__":
    main()
