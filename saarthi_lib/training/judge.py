"""Scores of a network on encoded validation data while it trains."""

from collections.abc import Callable

from torch import Tensor, nn

from saarthi_lib.data.encode import IGNORE
from saarthi_lib.evaluation.metrics import Answers, score
from saarthi_lib.tasks import Labels, decode, has_sequence_head, has_token_head
from saarthi_lib.training.batches import Batch, BatchStream, Outputs, outputs


def judge(
    network: nn.Module,
    stream: BatchStream,
    task: str,
    labels: Labels,
    loss: Callable[[Outputs, Batch], Tensor],
) -> dict[str, float]:
    """Score a network on labelled data.

    Args:
        network: teacher or student.
        stream: batches of the data.
        task: task of the run.
        labels: names of labels and tags.
        loss: loss of a batch, given the network's outputs.

    Returns:
        `main` (the task's main metric), `validation_loss` (mean by batch), and `score`, by which
        epochs are chosen: the main metric, ties broken by the loss.
    """
    device = next(network.parameters()).device
    gold_labels, labels_given, gold_tags, tags_given = [], [], [], []
    losses: list[float] = []
    for batch in stream:
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        found = outputs(network, batch)
        losses.append(float(loss(found, batch)))
        sequence, token = found[0].cpu(), found[1].cpu()
        best: list[int] = []
        scores = sequence.numpy() if has_sequence_head(task) else None
        if scores is not None:
            best = scores.argmax(axis=-1).tolist()
        if has_token_head(task):
            gold = batch["token_labels"].cpu()
            for row in range(len(gold)):
                words = gold[row] != IGNORE
                of_text = None if scores is None else scores[row]
                label, path = decode(task, labels, of_text, token[row, words].numpy())
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
