"""Scores of a network on encoded validation data while it trains."""

from collections.abc import Callable

import torch
from torch import Tensor

from saarthi_lib.data.encode import IGNORE
from saarthi_lib.evaluation.metrics import Answers, score
from saarthi_lib.tasks import Labels, decode, has_sequence_head, has_token_head
from saarthi_lib.training.batches import Batch, BatchStream

# Given a batch: sequence logits [batch, labels] and token logits [batch, time, tags].
Logits = Callable[[Batch], tuple[Tensor, Tensor]]


def judge(
    logits_of: Logits,
    stream: BatchStream,
    task: str,
    labels: Labels,
    loss: Callable[[Tensor, Tensor, Batch], Tensor],
    device: torch.device,
) -> dict[str, float]:
    """Score a network on labelled data.

    Returns:
        `main` (the task's main metric), `validation_loss` (mean by batch), and `score`, by which
        epochs are chosen: the main metric, ties broken by the loss.
    """
    gold_labels, labels_given, gold_tags, tags_given = [], [], [], []
    losses: list[float] = []
    for batch in stream:
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        sequence, token = logits_of(batch)
        losses.append(float(loss(sequence, token, batch)))
        best: list[int] = []
        scores = sequence.float().cpu().numpy() if has_sequence_head(task) else None
        if scores is not None:
            best = scores.argmax(axis=-1).tolist()
        if has_token_head(task):
            by_tag, gold = token.float().cpu(), batch["token_labels"].cpu()
            for row in range(len(gold)):
                words = gold[row] != IGNORE
                of_text = None if scores is None else scores[row]
                label, path = decode(task, labels, of_text, by_tag[row, words].numpy())
                if label is not None:
                    best[row] = label
                gold_tags.append([labels.token[i] for i in gold[row, words].tolist()])
                tags_given.append([labels.token[i] for i in path])
        if best:
            gold_labels += [labels.sequence[i] for i in batch["sequence_labels"].tolist()]
            labels_given += [labels.sequence[i] for i in best]
    gold_answers, given = Answers(gold_labels, gold_tags), Answers(labels_given, tags_given)
    main = float(score(task, gold_answers, given)["main"])
    mean = sum(losses) / len(losses)
    return {"main": main, "validation_loss": mean, "score": main - 1e-3 * min(mean, 10.0)}
