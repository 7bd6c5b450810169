"""Fuzzing targets of this process: each takes a random generator, and raises for a finding."""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest
from tokenizers import Tokenizer

from predictors import codecs, v2
from predictors.codecs import Limits
from predictors.errors import RequestError
from saarthi_lib.bundle import MANIFEST, read_manifest
from saarthi_lib.errors import BundleError, InputError, SaarthiError
from saarthi_lib.inference.familiarity import Familiarity
from saarthi_lib.inference.predictor import Entity, Predictor, Token
from saarthi_lib.tasks import Labels, bio_spans, bio_tags, decode_spans
from saarthi_lib.text.normalize import PRESETS, Normalizer
from saarthi_lib.text.tokenizer import SubwordTokenizer
from saarthi_lib.text.trim import trim_tokenizer
from saarthi_lib.text.words import split_words
from tests.fuzz.accidents import ACCIDENTS
from tests.fuzz.inputs import broken, changed, text
from tests.fuzz.readers import READERS
from tests.saarthi_lib.text.test_tokenizer import RAW, TOKENIZERS
from tests.saarthi_lib.text.test_trim import CORPUS, KINDS, content, plain
from tests.tiny_bundle import BIO_LABELS, SENTENCES, write_tiny_bundle

Target = Callable[[Random], None]
LIMITS = Limits(instances=50, characters=5000)


@cache
def bundle(task: str, runtime: str, normalization: str = "standard") -> Path:
    """A bundle of this process."""
    folder = Path(tempfile.mkdtemp(prefix="saarthi-fuzz-")) / "bundle"
    return write_tiny_bundle(
        folder, task, name="intents", runtime=runtime, normalization=normalization, threshold=0.5
    )


@cache
def predictor(task: str) -> Predictor:
    return Predictor.load(bundle(task, "onnxruntime"))


def tokenize(draw: Random) -> None:
    """Any texts and words get the same tokens as from the tokenizers library."""
    given = text(draw, surrogates=draw.random() < 0.1)
    number = draw.randrange(len(RAW))
    raw, tokenizer = RAW[number], TOKENIZERS[number]
    if any("\ud800" <= letter <= "\udfff" for letter in given):
        try:
            tokenizer.encode_text(given, 100)
        except InputError:
            return
        raise AssertionError("a lone surrogate was accepted")
    expected = raw.encode(given, add_special_tokens=False)
    assert tokenizer.encode_text(given, 10_000).ids == (expected.ids or [tokenizer.unknown_id])
    most = draw.randrange(1, 30)
    cut = tokenizer.encode_text(given, most)
    assert cut.ids == (expected.ids or [tokenizer.unknown_id])[:most]
    assert cut.truncated == (len(expected.ids) > most)
    for start, end in tokenizer.piece_spans(given):
        assert 0 <= start <= end <= len(given)
    words = [given[a:b] for a, b in split_words(given)]
    encoding = tokenizer.encode_words(words, most)
    assert 1 <= len(encoding.ids) <= most
    assert encoding.first_piece == sorted(set(encoding.first_piece))
    assert all(0 <= at < len(encoding.ids) for at in encoding.first_piece)


def trimmed_and_full(draw: Random) -> None:
    """For its own texts, a trimmed tokenizer gives the same tokens as the full one."""
    texts = [text(draw, 5) for _ in range(draw.randrange(1, 4))] + draw.sample(CORPUS, 2)
    kind = draw.choice(KINDS)
    words = [[each[a:b] for a, b in split_words(each)] for each in texts]
    trimmed = trim_tokenizer(content(kind), texts, words, draw.choice((0, 5)))
    full, own = _plain(kind), Tokenizer.from_str(json.dumps(trimmed.tokenizer))
    for each, split in zip(texts, words, strict=True):
        for form, pretokenized in ((each, False), (split, True)):
            wanted = full.encode(form, is_pretokenized=pretokenized, add_special_tokens=False)
            found = own.encode(form, is_pretokenized=pretokenized, add_special_tokens=False)
            assert found.tokens == wanted.tokens
            assert [trimmed.kept_ids[index] for index in found.ids] == wanted.ids


_plain = cache(plain)


def normalize(draw: Random) -> None:
    """Normalization is idempotent, and each character knows its origin."""
    given = text(draw)
    normalizer = Normalizer(draw.choice(PRESETS))
    made, aligned = normalizer(given), normalizer.align(given)
    assert aligned.text == made == normalizer(made)
    assert len(aligned.starts) == len(aligned.ends) == len(made)
    before = (0, 0)
    for start, end in zip(aligned.starts, aligned.ends, strict=True):
        assert before[0] <= start < end <= len(given) and before[1] <= end
        before = (start, end)
    spans = split_words(made)
    for number, (start, end) in enumerate(spans):
        assert (spans[number - 1][1] if number else 0) <= start < end <= len(made)
        a, b = aligned.to_original(start, end)
        assert 0 <= a < b <= len(given)
        first, last = aligned.to_normalized(a, b)
        assert first <= start and end <= last


def decode(draw: Random) -> None:
    """Tags are valid, and spans and tags convert into each other."""
    words = draw.randrange(1, 12)
    chance = np.random.default_rng(draw.getrandbits(32))
    logits = chance.normal(size=(words, len(BIO_LABELS))) * draw.choice((0.0, 1.0, 50.0, 1e30))
    with np.errstate(over="ignore"):
        tags = decode_spans(logits.astype(np.float32), Labels(token=BIO_LABELS))
    names = [BIO_LABELS[tag] for tag in tags]
    spans = bio_spans(names)
    assert bio_tags(spans, words) == names
    assert all(0 <= a < b <= words for a, b, _ in spans)


def answer(draw: Random) -> None:
    """Any text is answered, or refused with a message; offsets refer to the original text."""
    task = draw.choice(("joint", "ner", "pos", "intent_classification"))
    given = text(draw, 20, surrogates=draw.random() < 0.05)
    try:
        [found] = predictor(task).predict([given], top_k=draw.choice((1, 2, 99)))
    except InputError:
        visible = given.strip() and Normalizer("standard")(given)
        assert not visible or any("\ud800" <= letter <= "\udfff" for letter in given), given
        return
    orjson.dumps(found.to_dict())
    assert 0 <= found.probability <= 1 + 1e-6 and math.isfinite(found.confidence)
    # Words from one stretch of text that normalization has rewritten share its characters.
    before = (0, 0)
    spans: list[Entity | Token] = [*found.entities, *found.tokens]
    for each in spans:
        assert given[each.start : each.end] == each.text != ""
        assert before[0] <= each.start < each.end <= len(given) and before[1] <= each.end
        before = (each.start, each.end)


TENSOR = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["turn on", "बत्ती"]}
V2 = {
    "inputs": [TENSOR, {**TENSOR, "name": "lang", "data": ["english", ""]}],
    "parameters": {"top_k": 2, "binary_data_output": True},
    "outputs": [{"name": "label", "parameters": {"binary_data": True}}, {"name": "predictions"}],
    "id": "7",
}
V1 = {"instances": ["turn on", {"text": "बत्ती", "lang": "hindi"}], "parameters": {"top_k": 2}}
PREDICT = {"text": "turn on", "lang": "english", "model": "intents", "top_k": 3, "threshold": 0.3}
PACKED = b"\x07\0\0\0turn on\x02\0\0\0\xc3\xa9"


def http_body(draw: Random) -> tuple[str, bytes, int | None]:
    """A broken body of one of the protocols, and the size of its JSON part."""
    protocol = draw.choice(("predict", "v1", "v2", "binary"))
    if protocol == "binary":
        tensor: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [2]}
        tensor["parameters"] = {"binary_data_size": len(PACKED)}
        head = orjson.dumps(changed(draw, {**V2, "inputs": [tensor]}))
        tail = broken(draw, PACKED) if draw.random() < 0.7 else PACKED
        return "v2", head + tail, draw.choice((len(head), len(head), draw.randrange(99)))
    valid = {"predict": PREDICT, "v1": V1, "v2": V2}[protocol]
    body = orjson.dumps(changed(draw, valid))
    return protocol, broken(draw, body) if draw.random() < 0.5 else body, None


def read_codecs(draw: Random) -> None:
    """Any body is read as rows within the limits, or refused with a message."""
    protocol, body, size = http_body(draw)
    try:
        if protocol == "v2":
            request = v2.read_v2(body, None if size is None else min(size, len(body)), LIMITS)
            rows = request.rows
        else:
            read = codecs.read_v1 if protocol == "v1" else codecs.read_predict
            rows = read(codecs.read_json(body), LIMITS)
    except RequestError as error:
        assert 0 < len(str(error)) <= 501 and 400 <= error.status < 500
        orjson.dumps(str(error))
        return
    assert len(rows) <= LIMITS.instances
    for row in rows:
        assert 0 < len(row.text) <= LIMITS.characters and row.top_k >= 1
    if protocol == "v2":
        manifest = predictor("joint").manifest
        entity: codecs.Answer = {"label": "lights", "probability": 0.5, "abstained": False}
        entity |= {"confidence": 0.5, "threshold": None, "reason": None}
        with contextlib.suppress(RequestError):
            made, head = v2.write_v2(request, [entity] * len(rows), manifest, "1")
            orjson.loads(made[:head])


def grpc_message(draw: Random) -> bytes:
    """A broken message of V2."""
    message = ModelInferRequest(model_name="intents", id=text(draw, 3))
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
        tensor = message.inputs.add(
            name=draw.choice(("text", "text", "lang", "", "é")),
            datatype=draw.choice(("BYTES", "BYTES", "FP32", "")),
            shape=[draw.choice((0, 1, 2, -1, 2**62)) for _ in range(draw.choice((0, 1, 1, 2, 20)))],
        )
        if draw.random() < 0.5:
            tensor.contents.bytes_contents.extend(
                [draw.choice((b"turn on", b"", b"\xff", b"\xed\xa0\x80")) for _ in range(2)]
            )
        else:
            tensor.contents.fp32_contents.append(draw.random())
    if draw.random() < 0.4:
        message.raw_input_contents.extend([broken(draw, PACKED) for _ in range(draw.randrange(3))])
    if draw.random() < 0.3:
        message.parameters["top_k"].int64_param = draw.choice((0, 1, 3, -5, 2**62))
    if draw.random() < 0.2:
        message.parameters["top_k"].string_param = text(draw, 3)
    if draw.random() < 0.3:
        message.outputs.add(name=draw.choice(("label", "predictions", "x" * 9000)))
    packed = bytes(message.SerializeToString())
    return broken(draw, packed) if draw.random() < 0.3 else packed


def read_grpc(draw: Random) -> None:
    """Any message that protobuf accepts is read, or refused with a message."""
    message = ModelInferRequest()
    try:
        message.ParseFromString(grpc_message(draw))
    except Exception:  # protobuf's own
        return
    try:
        request = v2.read_grpc(message, LIMITS)
        entity: codecs.Answer = {"label": "lights", "probability": 0.5, "abstained": False}
        entity |= {"confidence": 0.5, "threshold": None, "reason": None}
        manifest = predictor("joint").manifest
        v2.write_grpc(request, [entity] * len(request.rows), manifest, "1")
    except RequestError as error:
        assert 0 < len(str(error)) <= 501


def read_bundle_json(draw: Random) -> None:
    """Any manifest is read and can be shown, or is refused with a message."""
    folder = _scratch()
    given = {**json.loads(_file("bundle.json")), "digest": None}  # else all are refused alike
    body = json.dumps(changed(draw, given)).encode()
    body = broken(draw, body) if draw.random() < 0.6 else body
    (folder / MANIFEST).write_bytes(body)
    with contextlib.suppress(BundleError):
        orjson.dumps(read_manifest(folder).to_dict())


def read_labels(draw: Random) -> None:
    """Any labels are read and can be shown, or are refused with a message."""
    body = json.dumps(changed(draw, json.loads(_file("labels.json")))).encode()
    with contextlib.suppress(BundleError):
        labels = Labels.parse(broken(draw, body) if draw.random() < 0.5 else body, "labels.json")
        orjson.dumps([*labels.sequence, *labels.token])
    table = draw.randbytes(draw.choice((0, 1, 2, 3, 64, 1000, 1024)))
    with contextlib.suppress(BundleError):
        assert Familiarity.parse(table, "familiarity.bin")([0, 2**40, 7]) <= 0


def read_tokenizer(draw: Random) -> None:
    """Any tokenizer.json is read and can encode or refuse texts, or is refused with a message."""
    body = json.dumps(changed(draw, _tokenizer())).encode()
    if draw.random() < 0.4:
        body = broken(draw, body)
    try:
        tokenizer = SubwordTokenizer.parse(body, "tokenizer.json")
    except SaarthiError:
        return
    try:
        assert len(tokenizer.encode_text(text(draw, 4), 10).ids) <= 10
    except (AssertionError, MemoryError):
        raise
    except Exception:  # from the library: a batch of the server fails, and the worker continues
        return


def load_onnx(draw: Random) -> None:
    """A bundle with a broken network or labels and matching digests is refused."""
    _load(draw, "onnxruntime", draw.choice(("model.onnx", "model.onnx", "labels.json")))


def load_torchscript(draw: Random) -> None:
    """The same for TorchScript."""
    _load(draw, "torchscript", "model.pt")


def load_unsigned(draw: Random) -> None:
    """A bundle with a broken file is refused."""
    original = bundle("joint", "onnxruntime")
    folder = _scratch("changed", original)
    name = draw.choice(sorted(os.listdir(original)))
    content = (original / name).read_bytes()
    made = broken(draw, content)
    (folder / name).write_bytes(made)
    try:
        Predictor.load(folder)
        same = made == content or json.loads(made) == json.loads(content)
        assert same
    except BundleError:
        pass
    finally:
        (folder / name).write_bytes(content)


def _load(draw: Random, runtime: str, name: str) -> None:
    from hashlib import sha256

    original = bundle("joint", runtime)
    folder = _scratch(runtime, original)
    content = broken(draw, (original / name).read_bytes())
    manifest = json.loads((original / MANIFEST).read_bytes())
    manifest["digest"] = None
    manifest["files"][name] = {
        "sha256": sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    (folder / name).write_bytes(content)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    try:
        Predictor.load(folder).predict(SENTENCES[:3])
    except BundleError:
        pass
    finally:
        (folder / name).write_bytes((original / name).read_bytes())


@cache
def _scratch(name: str = "scratch", original: Path | None = None) -> Path:
    import shutil

    folder = Path(tempfile.mkdtemp(prefix="saarthi-fuzz-")) / name
    if original:
        shutil.copytree(original, folder)
    else:
        folder.mkdir()
    return folder


@cache
def _file(name: str) -> bytes:
    return (bundle("joint", "onnxruntime") / name).read_bytes()


@cache
def _tokenizer() -> Any:
    return json.loads(_file("tokenizer.json"))


# Targets and their number of inputs in a long run.
IN_PROCESS: dict[str, tuple[Target, int]] = {
    "tokenizer: tokens, offsets, cut": (tokenize, 200_000),
    "tokenizer: trimmed and full": (trimmed_and_full, 2_000),
    "normalizer and words: alignment": (normalize, 200_000),
    "decoding: tags and spans": (decode, 100_000),
    "predictor: any text": (answer, 60_000),
    "codecs: V1, V2, binary, /predict": (read_codecs, 300_000),
    "codecs: gRPC messages": (read_grpc, 100_000),
    "loader: bundle.json": (read_bundle_json, 60_000),
    "loader: labels, familiarity": (read_labels, 100_000),
    "loader: tokenizer.json": (read_tokenizer, 30_000),
    "loader: any file, unchanged digest": (load_unsigned, 3_000),
    "loader: network, matching digest": (load_onnx, 3_000),
    "loader: TorchScript, matching digest": (load_torchscript, 500),
    **READERS,
    **ACCIDENTS,
}
