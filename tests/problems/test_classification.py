"""Classification problems: scaling, batch order, metrics on the full sets, and what is written into ledgers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from lowdim_bench import problems
from lowdim_bench.errors import BudgetExceeded, UserError
from lowdim_bench.problems import BatchOrder, Ledger, MeteredProblem
from lowdim_bench.records import Spending
from lowdim_bench.specs import load_task
from tests.problems.small import BLOBS, BLOBS_DIMENSION, WELL, blobs, make_task, small_problem

TASK = make_task(BLOBS)
PROBLEM = small_problem(TASK)
COUNT = 70


def orders(replicates: list[int], batch_size: int | None = 16, task_name: str = "blobs") -> BatchOrder:
    return BatchOrder(small_problem(make_task(BLOBS, {"name": task_name})), replicates, batch_size)


def batch(order: BatchOrder, step: int) -> torch.Tensor:
    examples = order.examples(step)
    assert examples is not None
    return examples


def test_batches_are_a_function_of_task_and_replicate_alone() -> None:
    for step in (0, 3, 4, 11):
        pair = batch(orders([5, 2]), step)
        assert torch.equal(pair[0], batch(orders([5]), step)[0])
        assert torch.equal(pair[1], batch(orders([9, 9, 2]), step)[2])
        assert not torch.equal(pair[0], pair[1])
        assert not torch.equal(pair[0], batch(orders([5], task_name="other"), step)[0])
    # Neither network nor recipe nor target decides on the batches.
    other = small_problem(make_task(BLOBS, {"problem": {"network": {"hidden": []}}, "training": {"steps": 99}}))
    assert torch.equal(batch(BatchOrder(other, [5], 16), 7), batch(orders([5]), 7))


def test_each_epoch_is_a_fresh_permutation_cut_into_whole_batches() -> None:
    order = orders([0])
    steps = COUNT // 16
    epochs = []
    for epoch in range(3):
        rows = [batch(order, epoch * steps + place) for place in range(steps)]
        assert all(row.shape == (1, 16) for row in rows)
        seen = torch.cat(rows, dim=1)[0]
        assert len(seen.unique()) == steps * 16
        assert 0 <= int(seen.min()) <= int(seen.max()) < COUNT
        epochs.append(seen)
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])
    # A batch as large as the data is the whole permutation.
    assert torch.equal(batch(orders([0], COUNT), 0)[0].sort().values, torch.arange(COUNT))
    assert batch(orders([0], 1000), 2).shape == (1, COUNT)


def test_a_rewound_order_goes_on_where_it_is_asked() -> None:
    whole = orders([3])
    all_steps = [batch(whole, step) for step in range(12)]
    rewound = orders([3])
    for step in (7, 8, 2, 11, 0):  # also backwards, over the ends of epochs
        assert torch.equal(batch(rewound, step), all_steps[step])


def test_rows_that_are_kept_see_the_batches_they_would_have_seen() -> None:
    kept, whole = orders([1, 2, 3]), orders([1, 2, 3])
    kept.keep(torch.tensor([2, 0]))  # before the first epoch
    for step in range(5):
        assert torch.equal(batch(kept, step), batch(whole, step)[[2, 0]])
    kept.keep(torch.tensor([1]))  # within an epoch
    for step in range(5, 12):
        assert torch.equal(batch(kept, step), batch(whole, step)[[0]])


def test_no_batch_size_means_all_examples() -> None:
    assert orders([0], None).examples(3) is None
    assert BatchOrder(small_problem(make_task(WELL)), [0], 16).examples(3) is None


def test_inputs_are_scaled_and_centred_by_the_training_set_alone() -> None:
    arrays = blobs()
    arrays["x_train"] = arrays["x_train"] + 5
    arrays["x_test"] = arrays["x_test"] * 3 + 4
    problem = problems.build(TASK, arrays)
    weights = torch.randn(8, BLOBS_DIMENSION, generator=torch.Generator().manual_seed(0))
    scale = np.abs(arrays["x_train"]).max()
    mean = (arrays["x_train"] / scale).mean(axis=0)
    metrics, tested = problem.train_metrics(weights), problem.test_accuracy(weights)
    assert tested is not None
    for row in range(8):
        loss, _ = naive_metrics(arrays["x_train"] / scale - mean, arrays["y_train"], weights[row])
        assert float(metrics.loss[row]) == pytest.approx(loss, rel=1e-5)
        _, accuracy = naive_metrics(arrays["x_test"] / scale - mean, arrays["y_test"], weights[row])
        assert float(tested[row]) == pytest.approx(accuracy)


def naive_metrics(inputs: np.ndarray, labels: np.ndarray, weights: torch.Tensor) -> tuple[float, float]:
    """Loss and accuracy of the 6-5-3 network, one example after the other, in float64."""
    w = weights.double().numpy()
    first, first_bias, second, second_bias = w[:30].reshape(6, 5), w[30:35], w[35:50].reshape(5, 3), w[50:]
    losses, hits = [], 0
    for example, label in zip(inputs.astype(np.float64), labels, strict=True):
        logits = np.maximum(example @ first + first_bias, 0) @ second + second_bias
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
        hits += int(np.argmax(logits) == label)
    return float(np.mean(losses)), hits / len(labels)


def test_bytes_are_scaled_by_255() -> None:
    arrays = blobs()
    for split in ("train", "test"):
        arrays[f"x_{split}"] = np.random.default_rng(0).integers(0, 200, arrays[f"x_{split}"].shape, dtype=np.uint8)
    problem = problems.build(TASK, arrays)
    weights = torch.randn(1, BLOBS_DIMENSION, generator=torch.Generator().manual_seed(0))
    inputs = arrays["x_train"] / 255
    expected = naive_metrics(inputs - inputs.mean(axis=0), arrays["y_train"], weights[0])
    assert float(problem.train_metrics(weights).loss[0]) == pytest.approx(expected[0], rel=1e-5)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_inputs_from_which_nothing_can_be_learnt_are_refused(value: float) -> None:
    arrays = blobs()
    arrays["x_train"][:] = value
    with pytest.raises(UserError, match="empty, all zero or not finite"):
        problems.build(TASK, arrays)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_metrics_are_means_over_the_full_set_whatever_its_size(count: int) -> None:
    arrays = blobs(train=max(count, 3))
    problem = problems.build(TASK, arrays)
    weights = torch.randn(4, BLOBS_DIMENSION, generator=torch.Generator().manual_seed(0))
    metrics = problem.train_metrics(weights)
    assert metrics.accuracy is not None
    assert metrics.loss.dtype == metrics.accuracy.dtype == torch.float64
    scale = np.abs(arrays["x_train"]).max()
    inputs = arrays["x_train"] / scale
    for row in range(4):
        loss, accuracy = naive_metrics(inputs - inputs.mean(axis=0), arrays["y_train"], weights[row])
        assert float(metrics.loss[row]) == pytest.approx(loss, rel=1e-5)
        assert float(metrics.accuracy[row]) == pytest.approx(accuracy, abs=1e-12)
        assert metrics.value(TASK.ranked_target, row) == float(metrics.loss[row])


def test_the_full_batch_gradient_is_the_mean_of_all_examples() -> None:
    weights = torch.randn(2, BLOBS_DIMENSION, generator=torch.Generator().manual_seed(0))
    loss, gradient = PROBLEM.loss_and_gradient(weights, None)
    torch.testing.assert_close(loss, PROBLEM.train_metrics(weights).loss.float())
    everything = torch.stack([torch.arange(COUNT), torch.arange(COUNT).flip(0)])
    torch.testing.assert_close(gradient, PROBLEM.loss_and_gradient(weights, everything)[1])


def test_initial_weights_depend_on_task_and_replicate_alone() -> None:
    assert torch.equal(PROBLEM.initial(3), small_problem(TASK).initial(3))
    assert not torch.equal(PROBLEM.initial(3), PROBLEM.initial(4))
    assert not torch.equal(PROBLEM.initial(3), small_problem(make_task(BLOBS, {"name": "other"})).initial(3))
    changed = make_task(BLOBS, {"training": {"steps": 99}, "targets": [{"metric": "train_accuracy", "at_least": 0.5}]})
    assert torch.equal(PROBLEM.initial(3), small_problem(changed).initial(3))


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    PROBLEM.initial(0)
    batch(orders([0]), 0)
    small_problem(make_task(WELL)).initial(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_layout_tells_the_blocks_without_a_problem() -> None:
    assert problems.layout(TASK, blobs()) == PROBLEM.blocks
    assert PROBLEM.blocks[-1].stop == BLOBS_DIMENSION
    well = make_task(WELL)
    assert problems.layout(well, {}) == small_problem(well).blocks


def test_forward_operations_of_dense_layers_convolutions_and_wells() -> None:
    assert problems.forward_operations(TASK, blobs()) == 2 * (6 * 5 + 5 * 3)
    well = make_task(WELL)
    assert problems.forward_operations(well, {}) == 2 * WELL["problem"]["dimension"] ** 2
    conv2 = load_task("mnist-conv2")
    images = {"x_train": np.zeros((2, 1, 28, 28)), "y_train": np.array([0, 9])}
    blocks = [block for block in problems.layout(conv2, images) if block.role == "weight"]
    # Convolutions pad, and are followed by pooling that halves each side; a dense layer follows.
    positions = [28 * 28, 14 * 14, 1]
    assert problems.forward_operations(conv2, images) == sum(
        2 * math.prod(block.shape) * places for block, places in zip(blocks, positions, strict=True)
    )


def metered(*limits: int | None) -> tuple[MeteredProblem, list[Ledger]]:
    ledgers = [Ledger(limit) for limit in limits]
    return MeteredProblem(PROBLEM, list(range(len(limits))), ledgers), ledgers


def test_each_gradient_and_each_evaluation_is_written_down_for_its_row() -> None:
    problem, ledgers = metered(None, None, 4)
    weights = torch.zeros(3, BLOBS_DIMENSION)
    problem.loss_and_gradient(weights, torch.zeros(3, 16, dtype=torch.int64))
    problem.loss_and_gradient(weights, None)
    problem.train_metrics(weights)
    problem.rows([2, 0]).loss_and_gradient(weights[:2], torch.zeros(2, 5, dtype=torch.int64))
    problem.rows([1]).train_metrics(weights[:1])
    both = 16 + COUNT + COUNT
    assert ledgers[0].spent == Spending(gradient_evaluations=3, examples=both + 5, evaluations=1)
    assert ledgers[1].spent == Spending(gradient_evaluations=2, examples=both + COUNT, evaluations=2)
    assert ledgers[2].spent == Spending(gradient_evaluations=3, examples=both + 5, evaluations=1)


def test_a_gradient_beyond_the_limit_is_refused_and_not_written_down() -> None:
    problem, ledgers = metered(2)
    weights = torch.zeros(1, BLOBS_DIMENSION)
    for _ in range(2):
        problem.loss_and_gradient(weights, None)
    with pytest.raises(BudgetExceeded, match="it asked for 3 gradient and full evaluations; the task allows 2"):
        problem.loss_and_gradient(weights, None)
    assert ledgers[0].spent.gradient_evaluations == 2
    ledgers[0].check(0)
    with pytest.raises(BudgetExceeded):
        ledgers[0].check(1)


def test_a_full_evaluation_counts_towards_the_limit_for_weights_can_be_found_by_the_loss_alone() -> None:
    problem, ledgers = metered(2)
    weights = torch.zeros(1, BLOBS_DIMENSION)
    problem.train_metrics(weights)
    problem.loss_and_gradient(weights, None)
    with pytest.raises(BudgetExceeded, match="it asked for 3 gradient and full evaluations"):
        problem.train_metrics(weights)
    assert ledgers[0].spent.evaluations == 1


def test_labels_are_counted_once_however_often_they_are_looked_at() -> None:
    ledger = Ledger(example_count=COUNT)
    problem = MeteredProblem(PROBLEM, [0], [ledger])
    weights = torch.zeros(1, BLOBS_DIMENSION)
    for examples in ([3, 4, 4], [4, 5, 6]):
        problem.loss_and_gradient(weights, torch.tensor([examples]))
    assert (ledger.spent.labels, ledger.spent.examples) == (4, 6)
    problem.train_metrics(weights)
    assert ledger.spent.labels == COUNT


def test_many_gradients_are_not_had_for_the_price_of_one() -> None:
    problem, ledgers = metered(None)
    many = torch.zeros(50, BLOBS_DIMENSION)
    with pytest.raises(ValueError, match="weights have shape"):
        problem.loss_and_gradient(many, torch.zeros(50, 16, dtype=torch.int64))
    with pytest.raises(ValueError, match="examples have shape"):
        problem.loss_and_gradient(many[:1], torch.zeros(50, 16, dtype=torch.int64))
    with pytest.raises(ValueError, match="weights have shape"):
        problem.train_metrics(many)
    assert ledgers[0].spent == Spending()


def test_a_metered_problem_knows_its_rows() -> None:
    problem, _ = metered(None, None)
    assert problem.full_dimension == BLOBS_DIMENSION
    assert problem.blocks == PROBLEM.blocks
    assert torch.equal(problem.initial(1), PROBLEM.initial(1))
    assert torch.equal(problem.rows([1]).initial(), PROBLEM.initial(1))
    assert torch.equal(batch(problem.rows([1]).batch_order(16), 3)[0], batch(orders([1]), 3)[0])


def test_cross_entropy_of_nothing_learnt_is_the_log_of_the_classes() -> None:
    metrics = PROBLEM.train_metrics(torch.zeros(1, BLOBS_DIMENSION))
    assert float(metrics.loss[0]) == pytest.approx(math.log(3))
    assert float(functional.cross_entropy(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))) == pytest.approx(
        math.log(3)
    )
