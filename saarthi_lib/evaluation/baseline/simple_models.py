"""Labellers and taggers in scikit-learn, the parts of a run's baseline.

The solvers stop after a few passes over at most `ROWS` training rows and `WORDS` training words.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.data.encode import file_words
from saarthi_lib.evaluation.evaluate import service_words, tags_on_table
from saarthi_lib.evaluation.metrics import Answers
from saarthi_lib.tasks import OUT_OF_SCOPE, bio_spans, bio_tags, uses_bio
from saarthi_lib.text.words import split_words, words_of

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import FeatureUnion

ROWS, WORDS = 20_000, 200_000  # most training rows and words
PASSES = 20  # passes of the solver over the texts; half of them, without a choice, for many texts
MANY = 500_000  # rows times labels
WORD_PASSES = 10
WORD_FEATURES = 2**18  # size of the hash table of word features

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Words = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Given:
    """Answers of a simple model.

    Attributes:
        answers: labels and tags of each text.
        confidence: probability of the label, or of the least certain word's tag, [texts].
        refused: whether the out-of-scope class is likelier than any label, [texts].
    """

    answers: Answers
    confidence: Floats
    refused: Bools


# A labeller answers texts. A tagger gives each word a tag, and each text the probability of its
# least certain tag.
Labeller = Callable[[Sequence[str]], Given]
Tagger = Callable[[Words], tuple[list[list[str]], Floats]]


@dataclass(frozen=True)
class SimpleModel:
    """A labeller, a tagger, or both, as the task needs."""

    task: str
    labeller: Labeller | None
    tagger: Tagger | None
    word_splitting: str = "punctuation"

    def answer(self, texts: Sequence[str]) -> Given:
        """Answer texts; tags belong to the words of the service.

        The confidence of a joint answer is that of its label, as for the student.
        """
        given = Given(Answers(), np.ones(len(texts)), np.zeros(len(texts), dtype=bool))
        tags: Words = ()
        if self.tagger:
            words = [words_of(text, self.word_splitting) for text in texts]
            tags, confidence = self.tagger(words)
            given = replace(given, confidence=confidence)
            if uses_bio(self.task):
                tags = [bio_tags(bio_spans(row), len(row)) for row in tags]
        if self.labeller:
            given = self.labeller(texts)
        return replace(given, answers=Answers(given.answers.labels, tags))

    def answer_table(self, table: pd.DataFrame) -> Given:
        """Answer the rows of a split; tags belong to the words of the table."""
        given = self.answer(list(table["text"]))
        if not self.tagger:
            return given
        rows = zip(table["text"], given.answers.tags, file_words(table), strict=True)
        tags = [
            tags_on_table(self.task, split_words(text, self.word_splitting), found, spans)
            for text, found, spans in rows
        ]
        return replace(given, answers=Answers(given.answers.labels, tags))


class TextClassifier:
    """Logistic regression on features of whole texts; the best candidate on validation is kept.

    Args:
        features: scikit-learn transformer of texts.
        candidates: classifiers, not fitted; the first wins a tie.
        train: labelled rows.
        validation: labelled rows.
    """

    def __init__(
        self,
        features: Any,
        candidates: "Sequence[LogisticRegression]",
        train: pd.DataFrame,
        validation: pd.DataFrame,
    ) -> None:
        self.features = features
        values = features.fit_transform(list(train["text"]))
        fitted = [_fitted(each, values, list(train["label"])) for each in candidates]
        self.classifier = fitted[0]
        if len(fitted) > 1 and len(validation):
            held, gold = features.transform(list(validation["text"])), list(validation["label"])
            self.classifier = max(fitted, key=lambda each: each.score(held, gold))

    def __call__(self, texts: Sequence[str]) -> Given:
        """The likeliest label of each text."""
        if not texts:
            return Given(Answers(), np.empty(0), np.empty(0, dtype=bool))
        probabilities = self.classifier.predict_proba(self.features.transform(texts))
        classes = self.classifier.classes_
        outside = classes == OUT_OF_SCOPE
        known = np.where(outside, -1.0, probabilities)
        best, confidence = known.argmax(axis=1), known.max(axis=1)
        refused = (np.where(outside, probabilities, -1.0).max(axis=1)) >= confidence
        return Given(Answers([str(classes[place]) for place in best]), confidence, refused)

    @property
    def parameters(self) -> int:
        """Coefficients and inverse document frequencies."""
        return _coefficients(self.classifier) + _coefficients(self.features)


class LinearTagger:
    """Logistic regression on features of a word and its neighbours, word by word.

    Args:
        words: words of each training text.
        tags: their tags.
        seed: seed of the drawn rows and of the solver.
    """

    def __init__(self, words: Words, tags: Words, seed: int) -> None:
        from sklearn.feature_extraction import FeatureHasher
        from sklearn.linear_model import LogisticRegression

        lengths = np.array([len(row) for row in words])
        drawn = np.random.default_rng(seed).permutation(len(words))
        kept = np.sort(drawn[np.cumsum(lengths[drawn]) <= max(WORDS, lengths.max())])
        self._hasher = FeatureHasher(WORD_FEATURES, alternate_sign=False, dtype=np.float32)
        solver = LogisticRegression(C=10.0, solver="saga", max_iter=WORD_PASSES, random_state=seed)
        gold = [tag for row in kept for tag in tags[row]]
        self.classifier = _fitted(solver, self._features(words[row] for row in kept), gold)

    def __call__(self, words: Words) -> tuple[list[list[str]], Floats]:
        """The likeliest tag of each word, and the probability of each text's least certain one."""
        if not any(words):
            return [[] for _ in words], np.ones(len(words))
        probabilities = self.classifier.predict_proba(self._features(words))
        names = self.classifier.classes_[probabilities.argmax(axis=1)]
        ends = np.cumsum([len(row) for row in words])[:-1]
        tags = [[str(name) for name in row] for row in np.split(names, ends)]
        certain = np.split(probabilities.max(axis=1), ends)
        return tags, np.array([row.min(initial=1.0) for row in certain])

    @property
    def parameters(self) -> int:
        """Coefficients that are not zero; most places of the hash table stay empty."""
        return _coefficients(self.classifier)

    def _features(self, words: Iterable[Sequence[str]]) -> Any:
        return self._hasher.transform(word for row in words for word in word_features(row))


def tagged_words(table: pd.DataFrame, task: str, word_splitting: str) -> tuple[Words, Words]:
    """Words of the service in labelled rows and their tags, without untagged words."""
    words: list[list[str]] = []
    tags: list[list[str]] = []
    rows = service_words(table, task, word_splitting)
    for text, (spans, found) in zip(table["text"], rows, strict=True):
        pairs = [(text[a:b], tag) for (a, b), tag in zip(spans, found, strict=True) if tag]
        words.append([word for word, _ in pairs])
        tags.append([tag for _, tag in pairs])
    return words, tags


def tfidf() -> "FeatureUnion":
    """TF-IDF of words 1 to 2, in lower case, and of characters 2 to 5 within words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    # scikit-learn's own pattern of words cuts Devanagari at its vowel signs.
    words = TfidfVectorizer(
        tokenizer=words_of,
        token_pattern=None,
        ngram_range=(1, 2),
        sublinear_tf=True,
        dtype=np.float32,
    )
    characters = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=(2, 5),
        sublinear_tf=True,
        max_features=100_000,
        dtype=np.float32,
    )
    return FeatureUnion([("words", words), ("characters", characters)])


def text_baseline(train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> TextClassifier:
    """TF-IDF with logistic regression; validation decides whether labels have equal weights."""
    from sklearn.linear_model import LogisticRegression

    if len(train) > ROWS:
        train = train.sample(ROWS, random_state=seed)
    many = len(train) * train["label"].nunique() > MANY
    passes = PASSES // 2 if many else PASSES
    candidates = [
        LogisticRegression(
            C=30.0, class_weight=weight, solver="saga", max_iter=passes, random_state=seed
        )
        for weight in ((None,) if many else ("balanced", None))
    ]
    return TextClassifier(tfidf(), candidates, train, validation)


def word_features(words: Sequence[str]) -> Iterator[dict[str, str]]:
    """Features of each word by name: the word, affixes, shape, and two neighbours on each side."""
    edge = ("", "")
    low = [*edge, *(word.lower() for word in words), *edge]
    for place, word in enumerate(words, len(edge)):
        before, here, after = low[place - 1 : place + 2]
        yield {
            "word": here,
            "as written": word,
            "shape": _shape(word),
            **{f"prefix {n}": here[:n] for n in (1, 2, 3)},
            **{f"suffix {n}": here[-n:] for n in (1, 2, 3)},
            "before": before,
            "after": after,
            "two before": low[place - 2],
            "two after": low[place + 2],
            "suffix before": before[-3:],
            "suffix after": after[-3:],
            "with before": f"{before} {here}",
            "with after": f"{here} {after}",
        }


def _fitted(model: Any, values: Any, gold: Sequence[str]) -> Any:
    """Fit the model; for a single class, fit a model that always answers it."""
    from sklearn.dummy import DummyClassifier

    if len(set(gold)) < 2:
        model = DummyClassifier(strategy="prior")
    with warnings.catch_warnings():
        # The solver stops early to save time, and few rows may have many labels.
        warnings.simplefilter("ignore", UserWarning)
        return model.fit(values, np.array(gold))


def _coefficients(model: Any) -> int:
    """Number of parameters of a fitted scikit-learn model or transformer."""
    if hasattr(model, "transformer_list"):
        return sum(_coefficients(part) for _, part in model.transformer_list)
    if hasattr(model, "coef_"):
        return int(np.count_nonzero(model.coef_)) + model.intercept_.size
    return len(getattr(model, "vocabulary_", ()))


def _shape(word: str) -> str:
    """Shape of a word, such as `Xx9-`: letters by case, digits and others, without repeats."""
    kinds = (
        "X" if c.isupper() else "x" if c.isalpha() else "9" if c.isdigit() else c for c in word
    )
    return "".join(kind for kind, _ in groupby(kinds))
