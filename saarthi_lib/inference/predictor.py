"""The library's interface for prediction: texts in, typed answers out, in order."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from saarthi_lib.addresses import local_path
from saarthi_lib.bundle import MANIFEST, BundleManifest, Calibration, read_verified, verify_bundle
from saarthi_lib.bundle.manifest import FAMILIARITY, LABELS, TOKENIZER
from saarthi_lib.errors import BundleError, InputError
from saarthi_lib.inference.answers import Entity, Prediction, RowLogits, Span, Token
from saarthi_lib.inference.checks import (
    MOST_ROWS,
    Demand,
    check_input,
    check_labels,
    check_network,
    check_thresholds,
    check_visible,
    warm_up_ids,
)
from saarthi_lib.inference.decoder import Decoder
from saarthi_lib.inference.engine import Engine, load_engine
from saarthi_lib.inference.familiarity import Familiarity
from saarthi_lib.layout import RUN_BUNDLES, RunLayout
from saarthi_lib.tasks import Labels, has_sequence_head, has_token_head
from saarthi_lib.text.normalize import Normalizer
from saarthi_lib.text.tokenizer import Encoding, SubwordTokenizer
from saarthi_lib.text.words import split_words

__all__ = ["Entity", "Prediction", "Predictor", "RowLogits", "Span", "Token", "init", "run"]


class Predictor:
    """A loaded bundle. `predict` may be called from several threads at once.

    Attributes:
        folder: the bundle's folder; None for a network that is not in a bundle.
    """

    folder: Path | None = None

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
        self.engine = engine
        self._normalize = Normalizer(manifest.normalization)
        self._splitting = manifest.word_splitting
        self._tokenizer = tokenizer
        self._by_word = has_token_head(manifest.task)
        self._familiarity = familiarity
        self._decoder = Decoder(manifest, labels, familiarity)

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        *,
        threads: int = 1,
        runtime: str | None = None,
        trusted_keys: Sequence[Path] = (),
        trial: Callable[[Path, BundleManifest, str | None], None] | None = None,
    ) -> "Predictor":
        """Verify a bundle and load the same bytes that were verified.

        Args:
            bundle: the bundle's folder.
            threads: threads that one prediction may use.
            runtime: `onnxruntime` or `torchscript`; None: the runtime that the bundle is made for.
            trusted_keys: public keys, one of which must have signed the bundle; see
                `verify_bundle`.
            trial: `saarthi_lib.inference.trial.Trial.run`, which tries the bundle in a process of
                its own before this one reads more than the digests; None: no trial.

        Raises:
            BundleError: a file is missing or changed, the runtime is not installed, the network
                fails or its outputs do not match the bundle, or no trusted key has signed.
            ConfigError: an address such as `s3://…` is given instead of a folder.
        """
        folder = local_path(bundle, "bundle")
        manifest = verify_bundle(folder, trusted_keys)
        if trial:
            trial(folder, manifest, runtime)
        labels = Labels.parse(read_verified(folder, manifest, LABELS), folder / LABELS)
        check_labels(labels, manifest.task, folder / LABELS)
        content = read_verified(folder, manifest, TOKENIZER)
        tokenizer = SubwordTokenizer.parse(content, folder / TOKENIZER)
        familiarity = None
        if FAMILIARITY in manifest.files:
            table = read_verified(folder, manifest, FAMILIARITY)
            familiarity = Familiarity.parse(table, folder / FAMILIARITY)
        engine = load_engine(folder, manifest, threads, runtime)
        loaded = cls(manifest, labels, tokenizer, engine, familiarity)
        loaded.folder = folder
        check_network(engine, loaded._demand(), folder)
        return loaded

    def rehearse(self) -> None:
        """Run more kinds of batches than `load`, and all that a server runs before requests.

        Raises:
            NetworkError: the network does not run, or its outputs do not match the labels.
        """
        check_network(self.engine, self._demand(), self.folder or Path(), warm=True)
        self.predict(["1"])

    def _demand(self) -> Demand:
        return Demand(
            self.manifest.max_seq_len,
            max(self._tokenizer.vocabulary().values()),
            len(self.labels.sequence) if has_sequence_head(self.task) else 0,
            len(self.labels.token) if has_token_head(self.task) else 0,
        )

    def predict(
        self,
        texts: Sequence[str],
        langs: Sequence[str | None] | None = None,
        top_k: int = 1,
        threshold: float | Sequence[float | None] | None = None,
    ) -> list[Prediction]:
        """Answer texts, in their order.

        Args:
            texts: the texts; none may be empty.
            langs: language of each text, copied to the answers. It also selects the threshold, if
                the bundle has thresholds by language.
            top_k: number of labels for each text that gets a label.
            threshold: lowest confidence for an answer, from 0 to 1, for all texts or for each; at
                0, only texts of the out-of-scope class get no answer. None: the bundle's threshold
                for the language.

        Raises:
            InputError: a text, language or threshold cannot be used; the message has its index.
        """
        langs = check_input(texts, langs, top_k)
        thresholds = check_thresholds(threshold, len(texts))
        spans, encodings = self._encode(texts, None)
        return [
            self._decoder.answer(text, lang, row_spans, encoding, logits, top_k, lowest)
            for text, lang, row_spans, encoding, logits, lowest in zip(
                texts, langs, spans, encodings, self._run(encodings), thresholds, strict=True
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
            language_thresholds={},
            expected_coverage=expected_coverage,
        )
        return Predictor(manifest, self.labels, self._tokenizer, self.engine, familiarity)

    def with_thresholds(self, manifest: BundleManifest) -> "Predictor":
        """The same network and calibration with the thresholds of another manifest."""
        changed = replace(
            self.manifest,
            threshold=manifest.threshold,
            language_thresholds=manifest.language_thresholds,
            expected_coverage=manifest.expected_coverage,
        )
        return Predictor(changed, self.labels, self._tokenizer, self.engine, self._familiarity)

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
        check_input(texts)
        _, encodings = self._encode(texts, spans)
        return [
            self._decoder.scale(encoding, logits)
            for encoding, logits in zip(encodings, self._run(encodings), strict=True)
        ]

    def words(self, text: str) -> list[Span]:
        """Words of a text as in `predict`: `(start, end)` in its characters.

        Raises:
            InputError: the text cannot be used.
        """
        check_input([text])
        return self._split([text])[1][0]

    def warm_up(self) -> None:
        """Make the first real prediction as fast as the thousandth.

        Engines compile on their first runs and prepare each input length on its first use.
        """
        longest, *others = warm_up_ids(self.manifest.max_seq_len)
        for ids in (longest, longest, longest, *others):
            self.engine.run(ids, np.array([ids.shape[1]]))
        self.predict(["1"])

    def _encode(
        self, texts: Sequence[str], spans: Sequence[Sequence[Span]] | None
    ) -> tuple[Sequence[Sequence[Span]], list[Encoding]]:
        """Words of each text, if the task tags words, and the subword tokens for the network."""
        longest = self.manifest.max_seq_len
        if not self._by_word:
            normalized = [self._normalize(text) for text in texts]
            check_visible(normalized)
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
        check_visible([alignment.text for alignment in alignments])
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
            row_ids = encodings[0].ids
            sequence, token = self.engine.run(np.array([row_ids]), np.array([len(row_ids)]))
            return [
                (None if sequence is None else sequence[0], None if token is None else token[0])
            ]
        order = sorted(range(len(encodings)), key=lambda row: len(encodings[row].ids))
        logits: dict[int, RowLogits] = {}
        for start in range(0, len(order), MOST_ROWS):
            rows = order[start : start + MOST_ROWS]
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
        candidates = [RunLayout(folder).teacher_bundle]
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
