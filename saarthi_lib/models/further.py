"""Copy the weights of an earlier network into one with other tokens and labels."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from saarthi_lib.models.student import Student
from saarthi_lib.models.teacher import Teacher


def carry_over(
    network: nn.Module, earlier: Mapping[str, Tensor], rows: Mapping[str, Sequence[int]]
) -> str:
    """Copy the weights of an earlier network, in place.

    Args:
        network: the new network.
        earlier: state of the earlier one.
        rows: for tensors with a row for each token or label, by name: the earlier row of each row;
            -1 keeps the new row.

    Returns:
        The name of a tensor that does not fit, and nothing is copied; empty if all fit.
    """
    state = network.state_dict()
    for name, tensor in state.items():
        before, first = earlier.get(name), 1 if name in rows else 0
        if before is None or before.shape[first:] != tensor.shape[first:]:
            return name
    with torch.no_grad():
        for name, tensor in state.items():
            if name not in rows:
                tensor.copy_(earlier[name])
                continue
            chosen = torch.tensor(rows[name], dtype=torch.int64)
            known = chosen >= 0
            tensor[known] = earlier[name][chosen[known]].to(tensor.dtype)
    return ""


def rows_of_heads(sequence: Sequence[int], token: Sequence[int]) -> dict[str, Sequence[int]]:
    """Rows for `carry_over` of the heads of a teacher or student.

    Args:
        sequence: earlier row of each label.
        token: earlier row of each tag.
    """
    heads = {"sequence_head": sequence, "token_head": token}
    return {f"{head}.{kind}": rows for head, rows in heads.items() for kind in ("weight", "bias")}


def name_of_embedding(teacher: Teacher) -> str:
    """Name of a teacher's embedding table in its state."""
    table = teacher.encoder.get_input_embeddings().weight
    return next(name for name, weights in teacher.named_parameters() if weights is table)


def embedding_of(student: Student) -> Tensor:
    """The embedding of each token, [vocabulary, width]; tokens may share rows of the table."""
    table = student.embedding.weight.detach()
    return table if student.row_of is None else table[student.row_of.long()]


def with_new_tokens(
    known: Tensor, rows: Sequence[int], of_teacher: Tensor, start: Tensor
) -> Tensor:
    """A student's embedding of tokens of which an earlier student knows some.

    A linear map of the teacher's table, fitted on the tokens that both have, gives the others.

    Args:
        known: the earlier student's embedding, [earlier tokens, width].
        rows: row in it of each token; -1: none.
        of_teacher: the teacher's embedding of each token, [tokens, teacher width].
        start: embedding of a new student, for too few common tokens, [tokens, width].

    Returns:
        The embedding, [tokens, width].
    """
    chosen = torch.tensor(rows, dtype=torch.int64)
    common = chosen >= 0
    table = start.clone()
    if int(common.sum()) > of_teacher.size(1):
        of_teacher, target = of_teacher.double(), known[chosen[common]].double()
        mean, centre = of_teacher[common].mean(dim=0), target.mean(dim=0)
        solved = torch.linalg.lstsq(of_teacher[common] - mean, target - centre)
        table = ((of_teacher - mean) @ solved.solution + centre).to(start.dtype)
    table[common] = known[chosen[common]]
    return table
