"""Malicious bundles with matching digests are refused with a message, at low cost."""

import io
import json
import os
import resource
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from saarthi_lib.bundle import read_manifest, sign_bundle, verify_bundle, write_bundle
from saarthi_lib.bundle.publishing import publish_bundle
from saarthi_lib.cli import app
from saarthi_lib.errors import BundleError, ConfigError
from saarthi_lib.inference.predictor import Predictor
from tests.fuzz.inputs import broken
from tests.tiny_bundle import reseal, write_tiny_bundle

HUGE = 10**400


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_tiny_bundle(folder / "onnx", name="lights", runtime="onnxruntime")
    write_tiny_bundle(folder / "torch", "joint", name="lights")
    return folder


@pytest.fixture
def bundle(originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals / "onnx", tmp_path / "bundle"))


@pytest.fixture
def scripted(originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals / "torch", tmp_path / "scripted"))


def put(bundle: Path, name: str, content: bytes) -> None:
    """Put a file into a bundle with its digest."""
    (bundle / name).write_bytes(content)
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    record = {"sha256": sha256(content).hexdigest(), "size_bytes": len(content)}
    manifest["files"][name] = record
    reseal(bundle, manifest)


def set_field(bundle: Path, name: str, value: Any) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    manifest[name] = value
    reseal(bundle, manifest)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metrics", {"main": float("nan")}),  # would break health checks
        ("metrics", {"main": float("inf")}),
        ("version", "\ud800"),  # would break every answer
        ("version", "1\n2"),
        ("version", "9" * 300),
        ("max_seq_len", 10**12),  # would exhaust the memory when warming up
        ("max_seq_len", HUGE),
        ("format", True),
        ("threshold", HUGE),
        ("languages", ["\udfff"]),
        ("calibration", {"temperature": HUGE}),
        ("calibration", {"temperature": 1e-320}),
        ("name", "x" * 100_000),
    ],
)
def test_harmful_fields_are_refused_at_load(bundle: Path, field: str, value: Any) -> None:
    if field == "calibration":
        value = {**read_manifest(bundle).to_dict()["calibration"], **value}
    set_field(bundle, field, value)

    with pytest.raises(BundleError, match=r"bundle\.json") as caught:
        Predictor.load(bundle)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 200_000, b"\xff", b"1" * 5000])
def test_deep_and_malformed_json_is_refused(bundle: Path, content: bytes) -> None:
    for name in ("labels.json", "tokenizer.json"):
        copy = shutil.copytree(bundle, bundle.with_name(name))
        put(copy, name, content)
        with pytest.raises(BundleError, match=name.replace(".", r"\.")):
            Predictor.load(copy)
    (bundle / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    "labels",
    [
        {"sequence": "abcd", "token": []},
        {"sequence": {"a": 1}, "token": []},
        {"sequence": ["a", "b", "c", "\ud800"], "token": []},
        {"sequence": ["a"], "token": []},
        {"sequence": ["a"] * 5, "token": []},
        [],
    ],
)
def test_labels_must_fit_the_network(bundle: Path, labels: Any) -> None:
    put(bundle, "labels.json", json.dumps(labels).encode())

    with pytest.raises(BundleError, match="labels"):
        Predictor.load(bundle)


def test_huge_files_are_refused_unread(bundle: Path) -> None:
    for name, size in (("bundle.json", 2**33), ("tokenizer.json", 2**33), ("labels.json", 2**27)):
        copy = Path(shutil.copytree(bundle, bundle.with_name(name)))
        if name != "bundle.json":
            manifest = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
            manifest["files"][name]["size_bytes"] = size
            reseal(copy, manifest)
        os.truncate(copy / name, size)  # sparse: needs no disk space
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(BundleError, match=r"more than|bytes"):
            Predictor.load(copy)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_links_pipes_and_folders_are_refused(bundle: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((bundle / "bundle.json").read_bytes())

    def link(path: Path) -> None:
        path.symlink_to(secret)

    makers: tuple[Callable[[Path], None], ...] = (link, os.mkfifo, Path.mkdir)
    for name in ("bundle.json", "labels.json", "model.onnx"):
        for number, make in enumerate(makers):
            copy = Path(shutil.copytree(bundle, tmp_path / f"{name}-{number}"))
            (copy / name).unlink()
            make(copy / name)
            with pytest.raises(BundleError, match=name.replace(".", r"\.")):
                Predictor.load(copy)


def test_file_changed_after_the_check_is_not_loaded(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saarthi_lib.inference import predictor

    def check_and_swap(folder: Path, *rest: Any) -> Any:
        manifest = verify_bundle(folder, *rest)
        content = (folder / "model.onnx").read_bytes()
        (folder / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        return manifest

    monkeypatch.setattr(predictor, "verify_bundle", check_and_swap)
    with pytest.raises(BundleError, match=r"model\.onnx: was changed"):
        Predictor.load(bundle)


def onnx_with(change: Callable[[onnx.ModelProto], object], bundle: Path) -> bytes:
    model = onnx.load_from_string((bundle / "model.onnx").read_bytes())
    change(model)
    return model.SerializeToString()


def test_onnx_weights_in_other_files_are_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(bytes(2**16))
    for place in ("../outside", str(tmp_path / "outside"), "labels.json"):

        def point_outside(model: onnx.ModelProto, place: str = place) -> None:
            tensor = model.graph.initializer[0]
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=place)

        put(bundle, "model.onnx", onnx_with(point_outside, bundle))
        with pytest.raises(BundleError, match="weights in another file"):
            Predictor.load(bundle)


def test_networks_with_wrong_outputs_are_refused(bundle: Path) -> None:
    def of_weight(name: str, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
        def edit(model: onnx.ModelProto) -> None:
            for tensor in model.graph.initializer:
                if tensor.name == name:
                    tensor.CopyFrom(
                        numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name)
                    )

        return onnx_with(edit, bundle)

    tensor = helper.make_tensor_value_info
    enormous = helper.make_model(
        helper.make_graph(
            [helper.make_node("ConstantOfShape", ["shape"], ["sequence_logits"])],
            "bomb",
            [
                tensor("ids", TensorProto.INT64, ["b", "t"]),
                tensor("lengths", TensorProto.INT64, ["b"]),
            ],
            [tensor("sequence_logits", TensorProto.FLOAT, ["b", "l"])],
            [numpy_helper.from_array(np.array([2**40, 2**10]), "shape")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    cases = {
        "do not fit": b"garbage",
        "too few rows": of_weight("table", lambda table: table[:5]),
        "not finite": of_weight("sequence_w", lambda w: np.full_like(w, np.nan)),
        "fewer labels": of_weight("sequence_w", lambda w: np.ascontiguousarray(w[:, :3])),
        "a bomb": enormous.SerializeToString(),
    }
    for name, content in cases.items():
        put(bundle, "model.onnx", content)
        with pytest.raises(BundleError):
            Predictor.load(bundle)
            pytest.fail(name)


def test_torchscript_zip_bomb_is_refused(scripted: Path) -> None:
    buffer = io.BytesIO((scripted / "model.pt").read_bytes())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data/999", bytes(200 << 20))
    assert len(buffer.getvalue()) < 1 << 20
    put(scripted, "model.pt", buffer.getvalue())

    with pytest.raises(BundleError, match="would unpack to 2"):
        Predictor.load(scripted)


def test_damaged_torchscript_is_refused_with_message(scripted: Path) -> None:
    content, refused = (scripted / "model.pt").read_bytes(), 0
    for seed in range(40):  # torch raises IndexError for 22 of them
        put(scripted, "model.pt", broken(Random(seed), content))
        try:
            Predictor.load(scripted)
        except BundleError:
            refused += 1
    assert refused > 10


def test_pickles_are_refused(scripted: Path, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "owned"),)

    for new_format in (False, True):
        buffer = io.BytesIO()
        torch.save({"model": Attack()}, buffer, _use_new_zipfile_serialization=new_format)
        put(scripted, "model.pt", buffer.getvalue())
        with pytest.raises(BundleError, match="not a TorchScript model"):
            Predictor.load(scripted)
    assert not (tmp_path / "owned").exists()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key pairs `own` and `other`, and one of another kind, as OpenSSL makes them."""
    folder = tmp_path_factory.mktemp("keys")
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    for name, kind in (("own", "ed25519"), ("other", "ed25519"), ("rsa", "rsa")):
        private, public = folder / f"{name}.pem", folder / f"{name}-public.pem"
        openssl("genpkey", "-algorithm", kind, "-out", private)
        openssl("pkey", "-in", private, "-pubout", "-out", public)
    openssl(
        "pkey",
        "-in",
        folder / "own.pem",
        "-aes256",
        "-passout",
        "pass:secret",
        "-out",
        folder / "locked.pem",
    )
    return folder


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def test_only_bundles_signed_by_trusted_key_are_loaded(bundle: Path, keys: Path) -> None:
    own, other = keys / "own-public.pem", keys / "other-public.pem"
    with pytest.raises(BundleError, match="is not signed"):
        Predictor.load(bundle, trusted_keys=[own])

    sign_bundle(bundle, keys / "own.pem")

    assert Predictor.load(bundle, trusted_keys=[other, own]).manifest.name == "lights"
    assert Predictor.load(bundle).manifest.name == "lights"
    with pytest.raises(BundleError, match="no trusted key has made its signature"):
        Predictor.load(bundle, trusted_keys=[other])
    openssl("pkeyutl", "-verify", "-pubin", "-inkey", own, "-rawin", "-in", bundle / "bundle.json",
            "-sigfile", bundle / "bundle.sig")  # fmt: skip

    set_field(bundle, "threshold", 0.25)
    with pytest.raises(BundleError, match="changed after it was signed"):
        verify_bundle(bundle, [own])
    sign_bundle(bundle, keys / "own.pem")
    put(bundle, "model.pt", b"other code")
    for signature in (b"", b"\0" * 64, b"\0" * 65):
        (bundle / "bundle.sig").write_bytes(signature)
        with pytest.raises(BundleError, match="no trusted key has made its signature"):
            verify_bundle(bundle, [own])


def test_unusable_keys_are_named(bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for private in ("rsa.pem", "own-public.pem", "locked.pem", "nowhere.pem"):
        with pytest.raises(ConfigError, match=private.replace(".", r"\.")):
            sign_bundle(bundle, keys / private)
    monkeypatch.setenv("SAARTHI_SIGNING_PASSWORD", "secret")
    sign_bundle(bundle, keys / "locked.pem")
    verify_bundle(bundle, [keys / "own-public.pem"])
    for public in ("rsa-public.pem", "own.pem", "nowhere.pem"):
        with pytest.raises(ConfigError, match=public.replace(".", r"\.")):
            verify_bundle(bundle, [keys / public])


def test_cli_signs_verifies_and_publishes(bundle: Path, keys: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    signed = runner.invoke(app, ["bundle", "sign", str(bundle), "--key", str(keys / "own.pem")])
    assert signed.exit_code == 0 and "signed" in signed.stdout
    published = publish_bundle(bundle, str(tmp_path / "published"))
    key = ["--key", str(keys / "own-public.pem")]
    checked = runner.invoke(app, ["bundle", "verify", published, *key])
    assert checked.exit_code == 0 and "signed by a trusted key" in checked.stdout


def test_unreadable_manifest_is_not_written(bundle: Path, tmp_path: Path) -> None:
    manifest = replace(read_manifest(bundle), max_seq_len=10**9)
    files = {name: bundle / name for name in manifest.files}

    with pytest.raises(BundleError, match="max_seq_len"):
        write_bundle(tmp_path / "new", files=files, manifest=manifest)
    assert not (tmp_path / "new").exists()
