"""The teacher: a pretrained encoder on a trimmed vocabulary, with the task's heads."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from saarthi_lib.errors import TeacherError
from saarthi_lib.models.heads import Standardize, linear_head
from saarthi_lib.models.sources import resolve_teacher
from saarthi_lib.storage import read_json, write_json

SHAPE = ("config.json", "teacher.json")  # files of the encoder's and the heads' shapes


class Teacher(nn.Module):
    """An encoder with a sequence head over its mean state, a token head, or both.

    It takes the same inner tokens as the student and adds the special tokens itself, so that the
    positions of the two agree.

    The heads read standardized states. An encoder for sentence similarity gives all tokens nearly
    the same state, and a head would spend its first epochs on finding the small differences.
    """

    def __init__(
        self,
        encoder: Any,  # a transformers encoder; its attributes lack types
        special: dict[str, int],
        sequence_labels: int,
        token_labels: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.special = special
        self.width: int = encoder.config.hidden_size
        self.layers: int = encoder.config.num_hidden_layers
        self.dropout = nn.Dropout(dropout)
        self.sequence_scale, self.token_scale = Standardize(self.width), Standardize(self.width)
        self.sequence_head = linear_head(self.width, sequence_labels)
        self.token_head = linear_head(self.width, token_labels)

    def forward(
        self, ids: Tensor, lengths: Tensor, layers: Sequence[int] = (0,)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the teacher.

        Args:
            ids: inner tokens, int64 [batch, time]; padding is ignored.
            lengths: tokens of each sentence, int64 [batch].
            layers: layers whose mean hidden state to return; 0 is the output of the embeddings;
                empty: no hidden states.

        Returns:
            Sequence logits [batch, sequence labels], token logits [batch, time, token labels] and
            hidden states of `layers` [batch, time, width]; a missing head, or hidden states of no
            layers, have 0 columns.
        """
        whole, mask = self._with_special_tokens(ids, lengths)
        out = self.encoder(
            input_ids=whole, attention_mask=mask, output_hidden_states=True, return_dict=True
        )
        last = out.last_hidden_state
        weights = mask.unsqueeze(2).to(last.dtype)
        pooled = (last * weights).sum(dim=1) / weights.sum(dim=1)
        inner = slice(1, ids.size(1) + 1)
        return (
            self.sequence_head(self.dropout(self.sequence_scale(pooled))),
            self.token_head(self.dropout(self.token_scale(last[:, inner]))),
            torch.stack([out.hidden_states[layer][:, inner] for layer in layers]).mean(dim=0)
            if layers
            else last[:, inner, :0],
        )

    def _with_special_tokens(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[begin] tokens [end] [pad]…, and the mask without padding, both [batch, time + 2]."""
        batch = ids.size(0)
        edge = ids.new_full((batch, 1), self.special["pad"])
        whole = torch.cat([edge, ids, edge], dim=1)
        position = torch.arange(whole.size(1), device=ids.device).unsqueeze(0)
        end = lengths.unsqueeze(1) + 1
        whole = torch.where(position > end, self.special["pad"], whole)
        whole = torch.where(position == end, self.special["end"], whole)
        whole = torch.where(position == 0, self.special["begin"], whole)
        return whole, (position <= end).long()

    def heads(self) -> dict[str, nn.Linear]:
        """The heads by name; a missing head has 0 columns."""
        return {"sequence": self.sequence_head, "token": self.token_head}

    @property
    def embedding_table(self) -> Tensor:
        """The embedding table, [vocabulary, width]."""
        table: Tensor = self.encoder.get_input_embeddings().weight
        return table.detach()


class TeacherEnsemble(nn.Module):
    """Teachers that differ only in their seed; the ensemble averages their outputs."""

    def __init__(self, members: Sequence[Teacher]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        first = members[0]
        self.width, self.layers = first.width, first.layers
        self.sequence_head, self.token_head = first.sequence_head, first.token_head
        self.embedding_table = first.embedding_table

    def forward(
        self, ids: Tensor, lengths: Tensor, layers: Sequence[int] = (0,)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means of the members' outputs; see `Teacher.forward`."""
        outputs = [member(ids, lengths, layers) for member in self.members]
        sequence, token, hidden = (
            torch.stack(each).mean(dim=0) for each in zip(*outputs, strict=True)
        )
        return sequence, token, hidden


class ServedTeacher(nn.Module):
    """A teacher that returns only logits, with the same signature as a served student."""

    def __init__(self, teacher: Teacher | TeacherEnsemble) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `Teacher.forward`, without hidden states."""
        sequence_logits, token_logits, _ = self.teacher(ids, lengths)
        return sequence_logits, token_logits


def pretrained_teacher(
    name: str,
    kept_ids: list[int],
    special: dict[str, int],
    sequence_labels: int,
    token_labels: int,
    dropout: float,
) -> tuple[Teacher, int]:
    """Load a pretrained encoder and keep some rows of its embedding table.

    Args:
        name: name for `resolve_teacher`.
        kept_ids: original ids of the kept tokens, in the order of their new ids.
        special: new ids of `begin`, `end` and `pad`.
        sequence_labels: columns of the sequence head.
        token_labels: columns of the token head.
        dropout: dropout in the encoder and before the heads.

    Returns:
        The teacher, and the number of parameters of the published encoder, with all tokens.

    Raises:
        TeacherError: the teacher is unknown, or transformers cannot load it as an encoder.
    """
    encoder = _load_encoder(name, dropout)
    whole = sum(parameter.numel() for parameter in encoder.parameters())
    table, pad = encoder.get_input_embeddings().weight.detach(), special["pad"]
    kept = nn.Embedding.from_pretrained(table[kept_ids].clone(), freeze=False, padding_idx=pad)
    encoder.set_input_embeddings(kept)
    encoder.config.vocab_size, encoder.config.pad_token_id = len(kept_ids), pad
    return Teacher(encoder, special, sequence_labels, token_labels, dropout), whole


def _load_encoder(name: str, dropout: float) -> Any:
    source = resolve_teacher(name)
    if isinstance(source, Path):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        # Explicit False: otherwise transformers prompts.
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        for field in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout"):
            if hasattr(config, field):
                setattr(config, field, dropout)
        encoder, loaded = transformers.AutoModel.from_pretrained(
            source,
            output_loading_info=True,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            **_no_pooler(config),
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise TeacherError(
            f"teacher '{name}' cannot be loaded from {source}: {error}. Without a model hub, use "
            "'multilingual-e5-small', 'minilm' or a local folder"
        ) from error
    # transformers replaces missing weights by random ones, with a warning.
    missing = sorted(key for key in loaded["missing_keys"] if "pooler" not in key)
    if missing:
        raise TeacherError(
            f"teacher '{name}' cannot be loaded from {source}: its weights lack {missing[0]}"
            + (f" and {len(missing) - 1} more" if missing[1:] else "")
            + "; give a complete folder written by save_pretrained"
        )
    return encoder


def _no_pooler(config: Any) -> dict[str, bool]:
    """The heads do not read a pooler; encoders of these types can be built without it."""
    poolable = ("bert", "roberta", "xlm-roberta", "albert", "camembert")
    return {"add_pooling_layer": False} if config.model_type in poolable else {}


def save_teacher(teacher: Teacher, folder: Path, extra: dict[str, Any]) -> None:
    """Write `teacher.safetensors`, the encoder's `config.json` and `teacher.json`.

    `teacher.json` contains `extra` and the shape of the heads.
    """
    state = {name: tensor.contiguous().cpu() for name, tensor in teacher.state_dict().items()}
    save_file(state, folder / "teacher.safetensors")
    teacher.encoder.config.to_json_file(folder / "config.json", use_diff=False)
    shape = {
        "special": teacher.special,
        "sequence_labels": teacher.sequence_head.out_features,
        "token_labels": teacher.token_head.out_features,
        "layers": teacher.layers,
    }
    write_json(folder / "teacher.json", {**extra, **shape})


def member_folder(folder: Path, member: int) -> Path:
    """Folder of an ensemble's member; the first member is in the folder itself."""
    return folder / f"member_{member}" if member else folder


def load_teacher(folder: Path, *, weights: bool = True) -> Teacher | TeacherEnsemble:
    """Read a teacher written by `save_teacher`, or an ensemble of them.

    Args:
        folder: folder of the teacher; without weights, it needs only the files in `SHAPE`.
        weights: whether to load the weights; otherwise they are random, which suffices to measure
            the latency.

    Raises:
        TeacherError: the folder lacks a fine-tuned teacher that can be loaded.
    """
    first = _load_one(folder, weights)
    count = read_json(folder / "teacher.json").get("members", 1)
    others = [
        _load_one(member_folder(folder, member) if weights else folder, weights)
        for member in range(1, count)
    ]
    return TeacherEnsemble([first, *others]).eval() if others else first


def _load_one(folder: Path, weights: bool) -> Teacher:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    try:
        shape = read_json(folder / "teacher.json")
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        encoder = transformers.AutoModel.from_config(config, **_no_pooler(config))
        teacher = Teacher(
            encoder, shape["special"], shape["sequence_labels"], shape["token_labels"]
        )
        if weights:
            teacher.load_state_dict(load_file(folder / "teacher.safetensors"))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise TeacherError(
            f"{folder}: the fine-tuned teacher cannot be loaded ({error}); train it again with "
            "teacher_exists: false"
        ) from error
    return teacher.eval()
