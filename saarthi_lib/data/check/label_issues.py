"""Labels that are probably wrong, by confident learning (arXiv 1911.00068, the library cleanlab).

Each text gets label probabilities from a light model that has not seen it: logistic regression over
TF-IDF of character n-grams, cross-validated. cleanlab compares them with the labels given. A
model of few texts is unsure of most of them, so another label must be much more probable.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IntArray = npt.NDArray[np.int64]

FOLDS = 3
# A model of few texts needs most of them; with few folds it flags many correct labels.
SMALL, FOLDS_OF_SMALL = 2_000, 10
MIN_TEXTS = 50
MIN_TEXTS_A_LABEL = 2 * FOLDS
# Times that another label must be more probable than the given one. Of correct labels in files of
# 50 to 300 texts, 0.3% are flagged (2.3% without it), of wrong ones 58% (68%).
LEAST_RATIO = 8
MIN_AGREEMENT = 0.6  # of the model with the given labels; a worse model cannot judge them
MAX_TEXTS = 20_000
# Most texts x labels; they take about half a minute on one core.
MAX_CELLS = 2_000_000
MAX_FEATURES = 5_000


@dataclass(frozen=True)
class LabelIssue:
    """A label that is probably wrong."""

    position: int  # in the texts given
    suggested: str
    confidence: float  # the model's probability of the given label, from 0 to 1


@dataclass(frozen=True)
class LabelIssues:
    """The issues, worst first; `skipped` is the reason if no text was examined."""

    issues: tuple[LabelIssue, ...] = ()
    examined: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # positions
    agreement: float = 0.0  # share of the given labels that the model predicts
    skipped: str = ""


def find_label_issues(
    texts: pa.Array, labels: IntArray, names: Sequence[str], *, seed: int
) -> LabelIssues:
    """Find the texts whose label is probably another.

    Labels of fewer than 6 texts are left out: cross-validation cannot learn them. Many texts are
    sampled.

    Args:
        texts: distinct texts; a repeated text in two folds would confirm its own label.
        labels: index in `names` for each text.
        names: names of the labels.
        seed: seed of the sample and the folds.
    """
    positions = _examinable(labels, seed)
    kept, given = np.unique(labels[positions], return_inverse=True)
    if len(positions) < MIN_TEXTS or len(kept) < 2:
        return LabelIssues(
            skipped=f"this needs {MIN_TEXTS} distinct texts, and two labels with "
            f"{MIN_TEXTS_A_LABEL} texts each"
        )
    chosen = texts.take(pa.array(positions)).to_pylist()
    probabilities = _out_of_sample(chosen, given, seed)
    suggested = probabilities.argmax(axis=1)
    agreement = float((suggested == given).mean())
    if agreement < MIN_AGREEMENT:
        return LabelIssues(
            skipped=f"a simple model agrees with only {agreement:.0%} of them, so it cannot judge "
            f"them (least: {MIN_AGREEMENT:.0%}); more rows per label help"
        )
    from cleanlab.filter import find_label_issues as rank_issues

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels with few texts are flagged less often
        ranked = rank_issues(
            given,
            probabilities,
            filter_by="both",
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
    return LabelIssues(
        tuple(
            LabelIssue(
                int(positions[index]),
                names[kept[suggested[index]]],
                float(probabilities[index, given[index]]),
            )
            for index in ranked
            if probabilities[index].max() >= LEAST_RATIO * probabilities[index, given[index]]
        ),
        examined=positions,
        agreement=agreement,
    )


def _examinable(labels: IntArray, seed: int) -> IntArray:
    """Positions of the texts to examine: a sample of bounded cost, without rare labels."""
    limit = min(MAX_TEXTS, MAX_CELLS // max(len(np.unique(labels)), 1))
    positions = np.arange(len(labels))
    if len(positions) > limit:
        positions = np.sort(np.random.default_rng(seed).choice(positions, limit, replace=False))
    counts = np.bincount(labels[positions])
    return positions[counts[labels[positions]] >= MIN_TEXTS_A_LABEL]


def _out_of_sample(texts: list[str], given: IntArray, seed: int) -> npt.NDArray[np.float64]:
    """Probabilities of each label for each text, by a model that has not seen it."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    vectorizer = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=(2, 4),
        max_features=MAX_FEATURES,
        sublinear_tf=True,
        dtype=np.float32,
    )
    model = LogisticRegression(C=10, max_iter=50)
    most = FOLDS if len(texts) > SMALL else FOLDS_OF_SMALL
    folds = StratifiedKFold(
        min(most, int(np.bincount(given).min())), shuffle=True, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 50 iterations are enough to rank
        probabilities: npt.NDArray[np.float64] = cross_val_predict(
            model, vectorizer.fit_transform(texts), given, cv=folds, method="predict_proba"
        )
    return probabilities
