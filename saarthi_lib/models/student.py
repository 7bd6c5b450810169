"""The student: embedding, encoder, projection to the teacher's width, heads.

XtremeDistil (Mukherjee and Awadallah, ACL 2020, arXiv 2004.05686), section 3.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from saarthi_lib.models.encoders import Encoder, make_encoder, real_positions
from saarthi_lib.models.heads import linear_head
from saarthi_lib.storage import read_json, write_json


@dataclass(frozen=True)
class StudentShape:
    """Sizes of a student.

    Attributes:
        vocabulary: number of the tokenizer's tokens.
        embedding: width of the embedding (E).
        hidden: width of the encoder's states (H); in each direction for recurrent families.
        layers: layers of the encoder.
        projection: the teacher's hidden size.
        sequence_labels: columns of the sequence head; 0 without one.
        token_labels: columns of the token head; 0 without one.
        family: family of the encoder, one of `saarthi_lib.models.encoders.FAMILIES`.
        rows: rows of the embedding if tokens share some; None: one row for each token.
    """

    vocabulary: int
    embedding: int
    hidden: int
    layers: int
    projection: int
    sequence_labels: int
    token_labels: int
    family: str = "lstm"
    rows: int | None = None


class LockedDropout(nn.Dropout):
    """Drops the same features at all positions of a text (Gal and Ghahramani, arXiv 1512.05287).

    Quality equals that of a draw for each position, which takes a third of a step on a CPU.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Drop features of [batch, time, features]."""
        if not self.training:
            return values
        drawn = torch.rand(values.size(0), 1, values.size(2), device=values.device)
        return values * ((drawn >= self.p) / (1 - self.p)).to(values.dtype)


class Student(nn.Module):
    """A student of any family. Padding changes neither the states nor the pooling.

    If tokens share rows, `row_of` is the row of each token, int32 [vocabulary]; else None.
    """

    row_of: Tensor | None

    def __init__(self, shape: StudentShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        shared = shape.rows is not None
        row_of = torch.zeros(shape.vocabulary, dtype=torch.int32) if shared else None
        self.register_buffer("row_of", row_of)
        self.embedding = nn.Embedding(shape.rows or shape.vocabulary, shape.embedding)
        self.encoder: Encoder = make_encoder(
            shape.family, shape.embedding, shape.hidden, shape.layers, dropout
        )
        self.projection = nn.Linear(self.encoder.width, shape.projection)
        self.sequence_head = linear_head(shape.projection, shape.sequence_labels)
        self.token_head = linear_head(shape.projection, shape.token_labels)
        self.dropout = LockedDropout(dropout)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the student.

        Args:
            ids: tokens, int64 [batch, time]; padding is ignored.
            lengths: tokens of each sentence, at least 1, int64 [batch].

        Returns:
            Sequence logits [batch, sequence labels], token logits [batch, time, token labels] and
            projected states for the representation loss [batch, time, projection]; a missing head
            has no columns.
        """
        row_of = self.row_of
        rows = ids if row_of is None else row_of[ids]
        embedded = self.dropout(self.embedding(rows))
        states = self.encoder(embedded, lengths)
        projected = self.projection(self.dropout(states))
        # The representation loss reads the projection before the GELU: the GELU is above -0.17,
        # but the teacher's states have mean zero.
        features = self.dropout(nn.functional.gelu(projected))
        padding = ~real_positions(ids, lengths).unsqueeze(2)
        pooled = features.masked_fill(padding, float("-inf")).amax(dim=1)
        return self.sequence_head(pooled), self.token_head(features), projected

    def share_rows(self, rows: Tensor, row_of: Tensor) -> None:
        """Let tokens share rows of the embedding.

        Args:
            rows: new embedding table, [rows, embedding].
            row_of: row of each token, int32 [vocabulary].
        """
        self.shape = replace(self.shape, rows=len(rows))
        self.embedding = nn.Embedding.from_pretrained(rows, freeze=False)
        self.row_of = row_of

    def heads(self) -> dict[str, nn.Linear]:
        """The heads by name; a missing head has 0 columns."""
        return {"sequence": self.sequence_head, "token": self.token_head}

    def parts(self) -> dict[str, list[nn.Module]]:
        """Modules of the parts that the schedule freezes and releases, bottom-up."""
        return {
            "embedding": [self.embedding],
            "encoder": [self.encoder],
            "projection": [self.projection],
            "head": [self.sequence_head, self.token_head],
        }

    def parameters_of(self, part: str) -> Iterator[nn.Parameter]:
        """Parameters of a part, by its name in `parts`."""
        for module in self.parts()[part]:
            yield from module.parameters()


class ServedStudent(nn.Module):
    """A student that returns only logits."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of `Student.forward`."""
        sequence_logits, token_logits, _ = self.student(ids, lengths)
        return sequence_logits, token_logits


def save_student(student: Student, folder: Path) -> None:
    """Write `student.safetensors` and `student.json` (its shape)."""
    state = {name: tensor.contiguous().cpu() for name, tensor in student.state_dict().items()}
    save_file(state, folder / "student.safetensors")
    write_json(folder / "student.json", asdict(student.shape))


def load_student(folder: Path, dropout: float = 0.0) -> Student:
    """Read a student written by `save_student`."""
    student = Student(StudentShape(**read_json(folder / "student.json")), dropout)
    student.load_state_dict(load_file(folder / "student.safetensors"))
    return student


def initial_embedding(table: Tensor, width: int) -> Tensor:
    """Reduce the teacher's embedding table by SVD (XtremeDistil, section 3.1).

    The result has a standard deviation of 1, like torch's initial embedding.

    Args:
        table: the fine-tuned teacher's table on the student's vocabulary, [tokens, teacher width].
        width: width of the student's embedding; columns beyond the table's rank are zero.

    Returns:
        The student's table, float32 [tokens, width].
    """
    centred = table.float() - table.float().mean(dim=0)
    # The small covariance has the same right singular vectors, and is fast for many rows.
    _, vectors = torch.linalg.eigh((centred.T @ centred).double())
    leading = vectors.flip(1)[:, :width].float()
    # The sign of a singular vector is arbitrary; choose one that does not vary.
    reduced = centred @ leading * torch.where(leading.sum(dim=0) < 0, -1.0, 1.0)
    padded = nn.functional.pad(reduced, (0, width - reduced.size(1)))
    return padded / reduced.std()


def cluster_rows(table: Tensor, counts: Tensor, spare: int, seed: int) -> tuple[Tensor, Tensor]:
    """Remove rows of an embedding: rare tokens share rows, by k-means.

    Rare tokens carry little information; similar ones share a row. The `2 * spare` rarest tokens
    get `spare` rows. A shared row is the mean of its tokens, weighted by their counts plus one.

    Args:
        table: a row for each token, float32 [tokens, width].
        counts: number of occurrences of each token, int64 [tokens].
        spare: number of rows to remove, from one to half of the rows.
        seed: seed of the clusters.

    Returns:
        The rows, unshared ones first, [tokens - spare, width], and the row of each token, int32
        [tokens].
    """
    from sklearn.cluster import KMeans

    least = counts.argsort(stable=True)[: 2 * spare]
    own = torch.ones(len(table), dtype=torch.bool)
    own[least] = False
    clusters = KMeans(spare, n_init=1, random_state=seed)
    found = clusters.fit_predict(table[least].numpy(), sample_weight=1 + counts[least].numpy())
    row_of = torch.zeros(len(table), dtype=torch.int32)
    row_of[own] = torch.arange(int(own.sum()), dtype=torch.int32)
    row_of[least] = torch.from_numpy(found).to(torch.int32) + int(own.sum())
    centres = torch.from_numpy(clusters.cluster_centers_).to(table.dtype)
    return torch.cat([table[own], centres]), row_of
