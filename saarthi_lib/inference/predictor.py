"""The library's interface for prediction: texts in, typed answers out, in order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from saarthi_lib.bundle import (
    FAMILIARITY,
    LABELS,
    MANIFEST,
    TOKENIZER,
    BundleManifest,
    Calibration,
    read_verified,
    verify_bundle,
)
from saarthi_lib.errors import BundleError, InputError
from saarthi_lib.inference.engine import Engine, Logits, load_engine
from saarthi_lib.inference.familiarity import Familiarity
from saarthi_lib.layout import RUN_BUNDLES, TEACHER_BUNDLE
from saarthi_lib.tasks import (
    Labels,
    bio_spans,
    decode,
    has_sequence_head,
    has_token_head,
    uses_bio,
)
from saarthi_lib.text.normalize import Normalizer
from saarthi_lib.text.tokenizer import Encoding, SubwordTokenizer
from saarthi_lib.text.words import split_words

# Reasons for abstention.
LOW_PROBABILITY = "low_probability"
UNFAMILIAR_TEXT = "unfamiliar_text"
NO_ANSWER_FITS = "out_of_scope"

_BATCH = 32
_WARM_UP_LENGTHS = 64
_NEARLY_ALL = np.float32(80)  # nats; a logit so far above leaves the tag no probability

Span = tuple[int, int]
RowLogits = tuple[Logits | None, Logits | None]


class Entity(NamedTuple):
    """A labelled span: `text` is the input's characters from `start` to `end` (exclusive).

    `probability` is that of its least certain word.
    """

    text: str
    label: str
    start: int
    end: int
    probability: float


class Token(NamedTuple):
    """A tagged word: `text` is the input's characters from `start` to `end` (exclusive)."""

    text: str
    label: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one text.

    Attributes:
        text: the text as given.
        lang: the language as given.
        label: the text's label; None for `ner` and `pos`.
        probability: probability of the label; for `ner` and `pos`, of the least certain word (1.0
            without words).
        top_k: the best labels with their probabilities, best first; empty for `ner` and `pos`.
        entities: entities for `ner` and `joint`, in the order of the text.
        tokens: tokens for `pos`, one for each word.
        confidence: value that is compared with the bundle's threshold: the probability, alone or
            combined with the text's familiarity (`saarthi_lib.bundle.Calibration`).
        abstained: whether the confidence is below the bundle's threshold, or the out-of-scope
            class, if the network has it, is likelier than any answer.
        reason: reason for abstention, `low_probability`, `unfamiliar_text` or `out_of_scope`; None
            without abstention.
        truncated: whether the text exceeds the model's maximum length; the rest gets no entities
            or tokens.
        task: the bundle's task, which decides the fields that are filled.
    """

    text: str
    lang: str | None
    label: str | None
    probability: float
    top_k: list[tuple[str, float]]
    entities: list[Entity]
    tokens: list[Token]
    confidence: float
    abstained: bool
    reason: str | None
    truncated: bool
    task: str

    def to_dict(self) -> dict[str, Any]:
        """The fields that the task has, ready for JSON."""
        answer: dict[str, Any] = {}
        if has_sequence_head(self.task):
            answer["label"] = self.label
            answer["probability"] = self.probability
            if len(self.top_k) > 1:
                answer["top_k"] = [
                    {"label": label, "probability": probability}
                    for label, probability in self.top_k
                ]
        if uses_bio(self.task):
            answer["entities"] = [entity._asdict() for entity in self.entities]
        elif has_token_head(self.task):
            answer["tokens"] = [token._asdict() for token in self.tokens]
        answer["abstained"] = self.abstained
        if self.abstained:
            answer["reason"] = self.reason
        answer["lang"] = self.lang
        if self.truncated:
            answer["truncated"] = True
        return answer


class Predictor:
    """A loaded bundle. `predict` may be called from several threads at once."""

    def __init__(
        self,
        manifest: BundleManifest,
        labels: Labels,
        tokenizer: SubwordTokenizer,
        engine: Engine,
        familiarity: Familiarity | None = None,
    ) -> None:
        self.manifest = manifest
        self.labels = labels
        self.task = manifest.task
        self._normalize = Normalizer(manifest.normalization)
        self._splitting = manifest.word_splitting
        self._tokenizer = tokenizer
        self.engine = engine
        self._by_word = has_token_head(manifest.task)
        self._answers = len(labels.answers)
        self._temperature = np.float32(manifest.calibration.temperature)
        self._token_temperature = np.float32(manifest.calibration.token_temperature)
        # Familiarity is not computed if its weight is 0.
        self._familiarity = familiarity if manifest.calibration.familiarity_weight else None

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        *,
        threads: int = 1,
        runtime: str | None = None,
        trusted_keys: Sequence[Path] = (),
    ) -> "Predictor":
        """Verify a bundle and load the same bytes that were verified.

        Args:
            bundle: the bundle's folder.
            threads: threads that one prediction may use.
            runtime: `onnxruntime` or `torchscript`; None: the runtime that the bundle is made for.
            trusted_keys: public keys, one of which must have signed the bundle; see
                `verify_bundle`.

        Raises:
            BundleError: a file is missing or changed, the runtime is not installed, the network's
                outputs do not match the bundle, or no trusted key has signed.
        """
        folder = Path(bundle)
        manifest = verify_bundle(folder, trusted_keys)
        labels = Labels.parse(read_verified(folder, manifest, LABELS), folder / LABELS)
        for head, names, needed in (
            ("sequence", labels.sequence, has_sequence_head(manifest.task)),
            ("token", labels.token, has_token_head(manifest.task)),
        ):
            if needed and not names:
                raise BundleError(
                    f"{folder / LABELS}: has no {head} labels, which {manifest.task} needs; "
                    "make the bundle again"
                )
        pieces = read_verified(folder, manifest, TOKENIZER)
        tokenizer = SubwordTokenizer.parse(pieces, folder / TOKENIZER)
        familiarity = None
        if FAMILIARITY in manifest.files:
            table = read_verified(folder, manifest, FAMILIARITY)
            familiarity = Familiarity.parse(table, folder / FAMILIARITY)
        engine = load_engine(folder, manifest, threads, runtime)
        _check_network(engine, manifest, labels, tokenizer, folder)
        return cls(manifest, labels, tokenizer, engine, familiarity)

    def predict(
        self,
        texts: Sequence[str],
        langs: Sequence[str | None] | None = None,
        top_k: int = 1,
    ) -> list[Prediction]:
        """Answer texts, in their order.

        Args:
            texts: the texts; none may be empty.
            langs: language of each text, copied to the answers.
            top_k: number of labels for each text that gets a label.

        Raises:
            InputError: a text or language cannot be used; the message has its index.
        """
        langs = _check_input(texts, langs, top_k)
        spans, encodings = self._encode(texts, None)
        return [
            self._answer(text, lang, row_spans, encoding, logits, top_k)
            for text, lang, row_spans, encoding, logits in zip(
                texts, langs, spans, encodings, self._run(encodings), strict=True
            )
        ]

    def calibrated(
        self,
        calibration: Calibration,
        threshold: float | None,
        familiarity: Familiarity | None,
        expected_coverage: tuple[float, float] | None = None,
    ) -> "Predictor":
        """The same network with another calibration, threshold and familiarity."""
        manifest = replace(
            self.manifest,
            calibration=calibration,
            threshold=threshold,
            expected_coverage=expected_coverage,
        )
        return Predictor(manifest, self.labels, self._tokenizer, self.engine, familiarity)

    def logits(
        self, texts: Sequence[str], spans: Sequence[Sequence[Span]] | None = None
    ) -> list[RowLogits]:
        """Logits of texts, in their order, before decoding.

        They are divided by the bundle's temperatures: their softmax gives the answers'
        probabilities.

        Args:
            texts: the texts; none may be empty.
            spans: words of each text, for tasks that tag words; None: those of `words`. Given words
                are normalized one by one.

        Returns:
            For each text the logits of its label, [labels], and of its words, [words, tags]. Words
            beyond the maximum length are left out; a head that the task lacks gives None.

        Raises:
            InputError: a text cannot be used; the message has its index.
        """
        _check_input(texts, None, 1)
        _, encodings = self._encode(texts, spans)
        return [
            (
                None if sequence is None else sequence / self._temperature,
                None if token is None else token[encoding.first_piece] / self._token_temperature,
            )
            for encoding, (sequence, token) in zip(encodings, self._run(encodings), strict=True)
        ]

    def words(self, text: str) -> list[Span]:
        """Words of a text as in `predict`: `(start, end)` in its characters.

        Raises:
            InputError: the text cannot be used.
        """
        _check_input([text], None, 1)
        return self._split([text])[1][0]

    def warm_up(self) -> None:
        """Make the first real prediction as fast as the thousandth.

        Engines compile on their first runs and prepare each input length on its first use.
        """
        longest = self.manifest.max_seq_len
        lengths = [longest] * 3 + list(range(1, min(longest, _WARM_UP_LENGTHS) + 1))
        for length in lengths:
            self.engine.run(np.zeros((1, length), np.int64), np.array([length]))
        self.predict(["1"])

    def _encode(
        self, texts: Sequence[str], spans: Sequence[Sequence[Span]] | None
    ) -> tuple[Sequence[Sequence[Span]], list[Encoding]]:
        """Words of each text, if the task tags words, and the subword tokens for the network."""
        longest = self.manifest.max_seq_len
        if not self._by_word:
            normalized = [self._normalize(text) for text in texts]
            _check_visible(normalized)
            return [[] for _ in texts], self._tokenizer.encode_texts(normalized, longest)
        if spans is None:
            words, spans = self._split(texts)
        else:
            words = [
                [self._normalize(text[a:b]) or text[a:b] for a, b in row]
                for text, row in zip(texts, spans, strict=True)
            ]
        return spans, self._tokenizer.encode_word_lists(words, longest)

    def _split(self, texts: Sequence[str]) -> tuple[list[list[str]], list[list[Span]]]:
        """Normalized words of each text, and their spans in the original text."""
        alignments = [self._normalize.align(text) for text in texts]
        _check_visible([alignment.text for alignment in alignments])
        words, spans = [], []
        for text, alignment in zip(texts, alignments, strict=True):
            row = split_words(alignment.text, self._splitting)
            words.append([alignment.text[a:b] for a, b in row])
            changed = alignment.text is not text
            spans.append([alignment.to_original(a, b) for a, b in row] if changed else row)
        return words, spans

    def _run(self, encodings: Sequence[Encoding]) -> list[RowLogits]:
        """Run the network on batches of similar length; returns each row's logits, in order."""
        if len(encodings) == 1:  # most common on a server; needs no sorting or padding
            pieces = encodings[0].ids
            sequence, token = self.engine.run(np.array([pieces]), np.array([len(pieces)]))
            return [
                (None if sequence is None else sequence[0], None if token is None else token[0])
            ]
        order = sorted(range(len(encodings)), key=lambda row: len(encodings[row].ids))
        logits: dict[int, RowLogits] = {}
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            longest = len(encodings[rows[-1]].ids)
            ids = [encodings[row].ids + [0] * (longest - len(encodings[row].ids)) for row in rows]
            lengths = [len(encodings[row].ids) for row in rows]
            sequence, token = self.engine.run(
                np.array(ids, dtype=np.int64), np.array(lengths, dtype=np.int64)
            )
            for position, row in enumerate(rows):
                logits[row] = (
                    None if sequence is None else sequence[position],
                    None if token is None else token[position],
                )
        return [logits[row] for row in range(len(encodings))]

    def _answer(
        self,
        text: str,
        lang: str | None,
        spans: Sequence[Span],
        encoding: Encoding,
        logits: RowLogits,
        top_k: int,
    ) -> Prediction:
        sequence, token = logits
        tags, probabilities, best = list[str](), list[float](), None
        if token is not None:
            tags, probabilities, best = self._tags(token[encoding.first_piece], sequence)
        if sequence is None:
            label, top = None, list[tuple[str, float]]()
            probability = min(probabilities, default=1.0)
            odds = probability / max(1e-9, 1 - probability)
        else:
            top, odds = self._top_labels(sequence, top_k, best)
            label, probability = top[0]
        confidence = probability
        if self._familiarity is not None:
            calibration = self.manifest.calibration
            unlike = calibration.familiarity_mean - self._familiarity(encoding.ids)
            confidence = odds / (odds + exp(min(500.0, calibration.familiarity_weight * unlike)))
        threshold, reason = self.manifest.threshold, None
        if (
            sequence is not None
            and len(sequence) > self._answers
            and sequence[-1] >= sequence[: self._answers].max()
        ):
            reason = NO_ANSWER_FITS
        elif threshold is not None and confidence < threshold:
            reason = LOW_PROBABILITY if probability < threshold else UNFAMILIAR_TEXT
        words = (text, spans, tags, probabilities)
        bio = uses_bio(self.task)
        return Prediction(
            text=text,
            lang=lang,
            label=label,
            probability=probability,
            top_k=top,
            entities=_entities(*words) if bio else [],
            tokens=[] if bio else _tokens(*words),
            confidence=confidence,
            abstained=reason is not None,
            reason=reason,
            truncated=encoding.truncated,
            task=self.task,
        )

    def _top_labels(
        self, logits: Logits, top_k: int, first: int | None
    ) -> tuple[list[tuple[str, float]], float]:
        """Best labels with their probabilities, and the odds of the best label.

        `first` is the label from joint decoding with the words' tags, if the task has both.
        """
        # Few array operations: each takes a hundredth of the time of an answer.
        known = logits[: self._answers]
        best = [known.argmax() if first is None else first]
        if top_k > 1:
            ranked = (-known).argsort(kind="stable")
            best = [best[0], *ranked[ranked != best[0]][: top_k - 1]]
        weights = np.exp((logits - logits[best[0]]) / self._temperature)
        total = float(np.add.reduce(weights))  # called by sum(), at a third of its time
        top = [(self.labels.sequence[i], float(weights[i]) / total) for i in best]
        return top, 1 / max(1e-9, total - 1)

    def _tags(
        self, logits: Logits, sequence: Logits | None
    ) -> tuple[list[str], list[float], int | None]:
        """Tag the words that the network has read, and choose the text's label with them.

        Args:
            logits: logits of the words, [words, tags].
            sequence: logits of the text, [labels], if the task gives it a label.

        Returns:
            The tag of each word and its probability, and the index of the label.
        """
        logits = logits / self._token_temperature
        of_label = None if sequence is None else sequence[: self._answers] / self._temperature
        label, tags = decode(self.task, self.labels, of_label, logits)
        above = np.minimum(logits - logits[np.arange(len(tags)), tags][:, None], _NEARLY_ALL)
        probabilities = (1 / np.add.reduce(np.exp(above), axis=-1)).tolist()
        return [self.labels.token[tag] for tag in tags], probabilities, label


def _check_network(
    engine: Engine,
    manifest: BundleManifest,
    labels: Labels,
    tokenizer: SubwordTokenizer,
    folder: Path,
) -> None:
    """Check that the network gives finite logits of all labels for the tokenizer's highest id.

    Raises:
        BundleError: the network does not run, or its outputs do not match the labels.
    """
    ids = np.array([[max(tokenizer.vocabulary().values())]])
    try:
        outputs = engine.run(ids, np.array([1]))
        found = [None if logits is None else (*logits.shape,) for logits in outputs]
        finite = all(logits is None or bool(np.isfinite(logits).all()) for logits in outputs)
    except Exception as error:  # each runtime raises its own type
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise BundleError(
            f"{folder}: the network does not run ({reason[0][:300]}); make the bundle again"
        ) from error
    wanted = [
        (1, len(labels.sequence)) if has_sequence_head(manifest.task) else None,
        (1, 1, len(labels.token)) if has_token_head(manifest.task) else None,
    ]
    if found != wanted or not finite:
        raise BundleError(
            f"{folder}: the network gives {found}{'' if finite else ', with numbers that are none'}"
            f", where {manifest.task} with its labels needs {wanted}; make the bundle again"
        )


def _tokens(
    text: str, spans: Sequence[Span], tags: Sequence[str], probabilities: Sequence[float]
) -> list[Token]:
    """The tagged words; words beyond the maximum length are left out."""
    return [
        Token(text[start:end], tag, start, end, probability)
        for (start, end), tag, probability in zip(spans, tags, probabilities, strict=False)
    ]


def _entities(
    text: str, spans: Sequence[Span], tags: Sequence[str], probabilities: Sequence[float]
) -> list[Entity]:
    entities = []
    for first, after, label in bio_spans(tags):
        start, end = spans[first][0], spans[after - 1][1]
        probability = min(probabilities[first:after])
        entities.append(Entity(text[start:end], label, start, end, probability))
    return entities


def _check_input(
    texts: Sequence[str], langs: Sequence[str | None] | None, top_k: int
) -> Sequence[str | None]:
    """Check the input of `predict`; returns a language, or None, for each text."""
    if isinstance(texts, str):
        raise InputError("texts must be a list of strings, not one string: wrap it in a list")
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
        raise InputError(f"top_k must be a whole number above 0, not {top_k!r}")
    langs = [None] * len(texts) if langs is None else langs
    if len(langs) != len(texts):
        raise InputError(f"there are {len(langs)} langs for {len(texts)} texts: give one for each")
    for index, (text, lang) in enumerate(zip(texts, langs, strict=True)):
        if not isinstance(text, str):
            raise InputError(f"texts[{index}] must be a string, not {type(text).__name__}")
        if not text.strip():
            raise InputError(f"texts[{index}] is empty: give it at least one word")
        if not text.isascii() and not _is_unicode(text):
            raise InputError(f"texts[{index}] is not valid Unicode: decode it as UTF-8 first")
        if lang is not None and not isinstance(lang, str):
            raise InputError(f"langs[{index}] must be a string or null, not {type(lang).__name__}")
    return langs


def _check_visible(normalized: Sequence[str]) -> None:
    for index, text in enumerate(normalized):
        if not text:
            raise InputError(
                f"texts[{index}] is empty: it holds only invisible characters; give it at least "
                "one word"
            )


def _is_unicode(text: str) -> bool:
    """Whether the text is free of lone surrogates, which no encoding can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_current: Predictor | None = None


def init(output_path: str | Path, model_type: str) -> None:
    """Load the model for `run`.

    Args:
        output_path: run folder, whose smallest bundle is loaded, or a bundle itself.
        model_type: `student` or `teacher`.

    Raises:
        BundleError: the model is missing, or was changed after it was made.
        InputError: the model type is unknown.
    """
    global _current
    folder = Path(output_path)
    if model_type == "teacher":
        candidates = [folder / TEACHER_BUNDLE]
    elif model_type == "student":
        candidates = [*(folder / name for name in RUN_BUNDLES), folder]
    else:
        raise InputError(f"model_type must be 'student' or 'teacher', not {model_type!r}")
    for candidate in candidates:
        if (candidate / MANIFEST).is_file():
            _current = Predictor.load(candidate)
            return
    names = ", ".join(str(candidate) for candidate in candidates)
    raise BundleError(
        f"{folder}: holds no {model_type} bundle (looked for {names}); train it first"
    )


def run(text: str, lang: str | None = None) -> Prediction:
    """Answer one text with the model that `init` has loaded.

    Raises:
        InputError: `init` was not called, or the text cannot be used.
    """
    if _current is None:
        raise InputError("no model is loaded: call init(output_path, 'student') before run(text)")
    return _current.predict([text], [lang])[0]
