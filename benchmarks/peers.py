"""Compare simple models and SetFit on the rows that the product trains on.

python benchmarks/peers.py [--data FOLDER] [--sets …] [--encoder TEACHER] [--setfit PYTHON]

Labels of texts: logistic regression on TF-IDF of words and characters (the baseline of every run),
and on the mean states of a frozen encoder. Tags of words: the baseline's linear tagger, and a CRF
on the same features, which needs sklearn-crfsuite. Joint tasks: a labeller and a tagger; a frame is
right if its label and all of its tags are.

Rows and splits are those of benchmarks/quality.py. All choices, thresholds included, are made on
validation. HINT3's authors report the test's best threshold, so tables have both. `--setfit PYTHON`
names the Python of an environment with setfit: SetFit then runs on HINT3 with the same encoder. It
trains for minutes and does not count as simple.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from common import add_data_options, begin, parser_of, points, print_line, print_table, sets_in
from quality import GROUPS, PEERS, with_test_split
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tokenizers import Tokenizer

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.errors import SaarthiError
from saarthi_lib.evaluation.baseline.evaluate import TAGS, TEXTS, measure
from saarthi_lib.evaluation.baseline.simple_models import (
    Given,
    LinearTagger,
    SimpleModel,
    TextClassifier,
    Words,
    tagged_words,
    text_baseline,
    word_features,
)
from saarthi_lib.evaluation.metrics import Answers
from saarthi_lib.evaluation.selective import out_of_scope_metrics
from saarthi_lib.models.sources import resolve_teacher
from saarthi_lib.storage import read_json, write_json
from saarthi_lib.tasks import has_sequence_head, has_token_head

Floats = npt.NDArray[np.floating]

OWN, BEST = "its own", "the test's best"  # thresholds

ENCODER, CRF, SETFIT = "frozen encoder + logistic regression", "CRF", "SetFit"
WITH_SETFIT = "hint3"  # beginning of a set's name
# Fields that do not change the rows: without generated sentences and extra tokens.
ROWS_ONLY = {"augmentation_size": 0, "vocabulary_extra_tokens": 0, "data_check": "nothing"}
BATCH, LONGEST = 32, 128  # texts in a batch of the encoder, and tokens of a text
JOINT = ("accuracy", "span_f1")  # besides the main metric, for tasks with labels and tags
SCOPE = ("in_scope_accuracy", "oos_recall", "mcc")


def main() -> None:
    """Train and measure the peers of each set, and print one table per set."""
    parser = parser_of(__doc__)
    add_data_options(parser)
    parser.add_argument("--work", type=Path, default=Path("runs/peers"))
    parser.add_argument("--encoder", default="multilingual-e5-small", help="the frozen encoder")
    parser.add_argument("--setfit", metavar="PYTHON", help="Python that has setfit, for HINT3")
    arguments = begin(parser)
    if crf_module() is None:
        print_line(
            "CRF: skipped, sklearn-crfsuite is not installed; "
            f"{sys.executable} -m pip install sklearn-crfsuite adds it"
        )
    for name, folder in sets_in(arguments.data, arguments.sets).items():
        try:
            source = with_test_split(folder, arguments.work)
            config = with_task(TrainConfig.from_mapping(fields_of(name, source, arguments.quick)))
            data = arguments.work / name / f"data-{config.seed}"
            if arguments.quick or not (data / "step.json").is_file():
                steps.preprocess(config, data)
            print_peers(name, steps.resolved(config, data), Prepared(data), arguments)
        except SaarthiError as error:
            sys.exit(f"{name}: {error}")


def fields_of(name: str, source: Path, quick: bool) -> dict[str, Any]:
    """The configuration whose rows the peers train on."""
    fields = {"input_path": str(source), **ROWS_ONLY, **GROUPS.get(name, {})}
    return fields | ({"fast_dev_run": True} if quick else {})


def print_peers(
    name: str, config: TrainConfig, data: Prepared, arguments: argparse.Namespace
) -> None:
    """Train all peers of a set, and print their metrics on its test split."""
    none: dict[str, Any] = {"": None}
    labellers = taggers = none
    if has_sequence_head(config.task):
        labellers = labellers_of(name, config, data, arguments)
    if has_token_head(config.task):
        taggers = taggers_of(config, data)
    found = {}
    for label, tag in product(labellers, taggers):
        model = SimpleModel(config.task, labellers[label], taggers[tag], config.word_splitting)
        found[", ".join(filter(None, (label, tag)))] = metrics_of(model, data, config)
    simple = {title: scores["main"] for title, scores in found.items() if SETFIT not in title}
    write_json(arguments.work / name / PEERS, simple)
    print_set(f"{name}: {next(iter(found.values()))['examples']} test examples", found)


def metrics_of(model: SimpleModel, data: Prepared, config: TrainConfig) -> dict[str, Any]:
    """Metrics on test; with out-of-scope rows, `scope` has the metrics at both thresholds."""
    measured, given, threshold = measure(model, data, config)
    scores: dict[str, Any] = {**measured}
    if "out_of_scope" in scores["calibration"]:
        abstained = given.refused | (given.confidence < (threshold or 0.0))
        gold = list(data.table("test")["label"])
        scores["scope"] = scope_metrics(
            gold, given.answers.labels, given.confidence, abstained.tolist(), data.labels.answers
        )
        if not has_token_head(config.task):
            scores["main"] = scores["scope"][OWN]["best_in_scope_accuracy"]
    return scores


def scope_metrics(
    gold: Sequence[str],
    given: Sequence[str],
    confidence: Floats,
    abstained: Sequence[bool],
    known: Sequence[str],
) -> dict[str, dict[str, float]]:
    """HINT3's metrics at the model's own threshold, and at the test's best one by MCC.

    The authors report all systems at the latter, although it can only be chosen on the test.
    """
    at_each = [
        out_of_scope_metrics(gold, given, (confidence < threshold).tolist(), known)
        for threshold in np.unique(confidence)
    ]
    best = max(at_each, key=lambda found: found["mcc"])
    return {OWN: out_of_scope_metrics(gold, given, abstained, known), BEST: best}


def print_set(title: str, found: dict[str, dict[str, Any]]) -> None:
    """Print a table with one row per peer."""
    first = next(iter(found.values()))
    metrics = ["main", *(JOINT if "frame_accuracy" in first else ())]
    scope = [(by, each) for by in (OWN, BEST) for each in SCOPE if "scope" in first]
    named = [f"{each.replace('_', ' ')}, {by} threshold" for by, each in scope]
    rows = [
        [
            name,
            *(points([scores[metric]]) for metric in metrics),
            *(points([scores["scope"][by][each]]) for by, each in scope),
        ]
        for name, scores in found.items()
    ]
    print_table(title, ["peer", *metrics, *named], rows)


# Labels of texts


def labellers_of(
    name: str, config: TrainConfig, data: Prepared, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The labellers of a set, by name."""
    train, validation = data.table("train"), data.table("validation")
    candidates = [LogisticRegression(C=cost, max_iter=200) for cost in (0.1, 0.01, 1.0)]
    found: dict[str, Any] = {
        TEXTS: text_baseline(train, validation, config.seed),
        ENCODER: TextClassifier(MeanPooled(arguments.encoder), candidates, train, validation),
    }
    if not name.startswith(WITH_SETFIT):
        return found
    if arguments.setfit:
        given = (arguments.setfit, arguments.work / name, data, config.seed)
        found[SETFIT] = SetFit(*given, arguments.encoder, arguments.quick)
    else:
        print_line("SetFit: skipped; --setfit PYTHON runs it in another environment")
    return found


class MeanPooled:
    """Mean of a frozen encoder's last states, standardized, as a scikit-learn transformer.

    Args:
        name: name that `resolve_teacher` accepts.
    """

    def __init__(self, name: str) -> None:
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        source = resolve_teacher(name)
        self.prefix = prefix_of(name)
        self.encoder = transformers.AutoModel.from_pretrained(source).eval()
        self.tokenizer = tokenizer_of(source)
        self.tokenizer.enable_padding(pad_id=self.encoder.config.pad_token_id)
        self.tokenizer.enable_truncation(LONGEST)
        self.scale = StandardScaler()

    def fit_transform(self, texts: Sequence[str]) -> Floats:
        """Features of training texts, [texts, width]."""
        values: Floats = self.scale.fit_transform(self._pooled(texts))
        return values

    def transform(self, texts: Sequence[str]) -> Floats:
        """Features of other texts, [texts, width]."""
        values: Floats = self.scale.transform(self._pooled(texts))
        return values

    def _pooled(self, texts: Sequence[str]) -> Floats:
        pooled = np.empty((len(texts), self.encoder.config.hidden_size), np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                batch = self.tokenizer.encode_batch([self.prefix + texts[row] for row in rows])
                ids = torch.tensor([each.ids for each in batch])
                mask = torch.tensor([each.attention_mask for each in batch])
                states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
                weights = mask.unsqueeze(2)
                mean = (states * weights).sum(dim=1) / weights.sum(dim=1)
                pooled[rows] = mean.numpy()
        return pooled


def tokenizer_of(source: Path | str) -> Tokenizer:
    """The whole tokenizer of an encoder, from its folder or from a hub."""
    if isinstance(source, Path):
        return Tokenizer.from_file(str(source / "tokenizer.json"))
    return Tokenizer.from_pretrained(source)


def prefix_of(encoder: str) -> str:
    """Prefix of each text; E5 needs one, also when its states are features."""
    return "query: " if "e5" in encoder else ""


class SetFit:
    """SetFit (Tunstall et al. 2022, arXiv 2209.11055), trained by another Python on the same rows.

    Args:
        python: Python of the environment with SetFit.
        folder: folder for rows and answers.
        data: the set.
        seed: seed of the training.
        encoder: name that `resolve_teacher` accepts.
        quick: train for a few steps only.
    """

    def __init__(
        self, python: str, folder: Path, data: Prepared, seed: int, encoder: str, quick: bool
    ) -> None:
        splits = ("train", "validation", "test", "out_of_scope")
        tables = {split: data.table(split) for split in splits}
        asked = [text for split in splits[1:] for text in tables[split]["text"]]
        rows = {
            "encoder": str(loadable(resolve_teacher(encoder), folder / "encoder")),
            "prefix": prefix_of(encoder),
            "seed": seed,
            "iterations": 1 if quick else 20,
            "texts": list(tables["train"]["text"]),
            "labels": list(tables["train"]["label"]),
            "asked": list(dict.fromkeys(asked)),
        }
        given, answers = folder / "setfit-rows.json", folder / "setfit-answers.json"
        write_json(given, rows)
        script = Path(__file__).with_name("setfit_peer.py")
        subprocess.run([python, str(script), str(given), str(answers)], check=True)
        self.answers: dict[str, tuple[str, float]] = read_json(answers)

    def __call__(self, texts: Sequence[str]) -> Given:
        """Answers to texts of validation and test, computed during training."""
        found = [self.answers[text] for text in texts]
        confidence = np.array([probability for _, probability in found])
        return Given(Answers([label for label, _ in found]), confidence, np.zeros(len(found), bool))


def loadable(source: Path | str, copy: Path) -> Path | str:
    """The encoder, or a copy of its folder with the tokenizer's settings for transformers."""
    if isinstance(source, str) or (source / "tokenizer_config.json").is_file():
        return source
    padding = transformers.AutoConfig.from_pretrained(source).pad_token_id
    tokenizer = tokenizer_of(source)
    shutil.copytree(source, copy, dirs_exist_ok=True)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=tokenizer.id_to_token(padding)
    ).save_pretrained(copy)
    return copy


# Tags of words


def taggers_of(config: TrainConfig, data: Prepared) -> dict[str, Any]:
    """The taggers of a set, by name."""
    words, tags = tagged_words(data.table("train"), config.task, config.word_splitting)
    found: dict[str, Any] = {TAGS: LinearTagger(words, tags, config.seed)}
    if crf_module() is not None:
        found[CRF] = CrfTagger(words, tags, 5 if config.fast_dev_run else 100)
    return found


class CrfTagger:
    """A linear-chain CRF on the features of the linear tagger, weights by L-BFGS.

    Args:
        words: words of each training text.
        tags: tags of these words.
        iterations: most iterations.
    """

    def __init__(self, words: Words, tags: Words, iterations: int) -> None:
        self.crf = crf_module().CRF(
            algorithm="lbfgs",
            c1=0.1,
            c2=0.1,
            max_iterations=iterations,
        )
        self.crf.fit([list(word_features(row)) for row in words], [list(row) for row in tags])

    def __call__(self, words: Words) -> tuple[list[list[str]], Floats]:
        """The best path's tags, and the probability of each text's least certain one."""
        features = [list(word_features(row)) for row in words]
        tags = [[str(tag) for tag in row] for row in self.crf.predict(features)]
        marginals = self.crf.predict_marginals(features)
        certain = [
            min((word[tag] for word, tag in zip(*row, strict=True)), default=1.0)
            for row in zip(marginals, tags, strict=True)
        ]
        return tags, np.array(certain)


def crf_module() -> Any:
    """sklearn-crfsuite, an optional package; None if it is not installed."""
    try:
        return import_module("sklearn_crfsuite")
    except ImportError:
        return None


if __name__ == "__main__":
    main()
