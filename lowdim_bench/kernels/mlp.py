"""A multilayer perceptron with ReLU between its layers and cross-entropy at its end, for packs of parameter vectors.

Parameters (D,) of a network of widths (w_0, ..., w_L) lie layer by layer: weight (w_l, w_{l+1}) row by row, then bias
(w_{l+1},). One call does all trials of a pack, one after the other: a trial's activations then stay in the caches, and the
matrix products go to SciPy's BLAS, without the price of a call from Python for each.

Softmax and cross-entropy of rows of logits are here too, with an exponential that compilers can vectorize.
"""

from __future__ import annotations

import numpy as np

from lowdim_bench.kernels.compiling import compiled

CHUNK = 256
"""Examples in one chunk of an evaluation: enough for an efficient product, few enough to stay in the caches."""
_LOG2_E = np.float32(1.44269504088896341)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)


@compiled
def loss_and_gradient(
    weights: np.ndarray,
    inputs: np.ndarray,
    labels: np.ndarray,
    examples: np.ndarray,
    widths: np.ndarray,
    losses: np.ndarray,
    gradients: np.ndarray,
) -> None:
    """Fill losses (P,) and gradients (P, D) at weights (P, D).

    inputs (N, w_0) and labels (N,) are the data, examples (P, B) the indices that each row sees; float32 and int64, C order.
    A row whose logits are not finite gets NaN in both.
    """
    batch, layers = examples.shape[1], len(widths) - 1
    starts = np.zeros(layers + 1, np.int64)
    for layer in range(layers):
        starts[layer + 1] = starts[layer] + batch * widths[layer]
    activations = np.empty(starts[layers], np.float32)
    largest = batch * widths[1:].max()
    one, two = np.empty(largest, np.float32), np.empty(largest, np.float32)
    first, targets = activations[: starts[1]].reshape(batch, widths[0]), np.empty(batch, np.int64)
    logits = one[: batch * widths[layers]].reshape(batch, widths[layers])
    for row in range(len(examples)):
        for place in range(batch):
            example = examples[row, place]
            if not 0 <= example < len(labels):
                raise IndexError("an example's index lies outside the data")
            source, copy = inputs[example], first[place]
            for i in range(len(copy)):  # assigning the slice takes seven times as long
                copy[i] = source[i]
            targets[place] = labels[example]
        _forward(weights[row], widths, starts, activations, logits)
        losses[row] = softmax_rows(logits, targets)
        if np.isfinite(losses[row]):
            _backward(weights[row], widths, starts, activations, one, two, gradients[row])
        else:
            losses[row] = np.nan
            gradients[row] = np.nan


@compiled
def _forward(
    weights: np.ndarray, widths: np.ndarray, starts: np.ndarray, activations: np.ndarray, logits: np.ndarray
) -> None:
    """From the first activations, filled, to the logits (B, C); keeps the activations of every layer, flat at `starts`."""
    batch, layers, offset = len(logits), len(widths) - 1, 0
    for layer in range(layers):
        before = activations[starts[layer] : starts[layer + 1]].reshape(batch, widths[layer])
        if layer + 1 < layers:
            after = activations[starts[layer + 1] : starts[layer + 2]].reshape(batch, widths[layer + 1])
            _dense(before, weights, offset, after)
            _relu(after)
        else:
            _dense(before, weights, offset, logits)
        offset += (widths[layer] + 1) * widths[layer + 1]


@compiled
def _backward(
    weights: np.ndarray,
    widths: np.ndarray,
    starts: np.ndarray,
    activations: np.ndarray,
    one: np.ndarray,
    two: np.ndarray,
    gradient: np.ndarray,
) -> None:
    """Fill a gradient (D,) from the one at the logits, flat in `one`; `two` is scratch of the same size."""
    batch, offset = starts[1] // widths[0], len(weights)
    for layer in range(len(widths) - 2, -1, -1):
        inside, outside = widths[layer], widths[layer + 1]
        bias_at = offset - outside
        offset = bias_at - inside * outside
        before = activations[starts[layer] : starts[layer + 1]].reshape(batch, inside)
        wrong = one[: batch * outside].reshape(batch, outside)
        np.dot(before.T, wrong, gradient[offset:bias_at].reshape(inside, outside))
        _column_sums(wrong, gradient[bias_at : bias_at + outside])
        if layer:
            back = two[: batch * inside].reshape(batch, inside)
            np.dot(wrong, weights[offset:bias_at].reshape(inside, outside).T, back)
            _relu_backward(back, before)
            one, two = two, one


@compiled
def evaluate(
    weights: np.ndarray,
    inputs: np.ndarray,
    labels: np.ndarray,
    widths: np.ndarray,
    losses: np.ndarray,
    correct: np.ndarray,
) -> None:
    """Fill losses (P,), sums over all N examples in float64, and correct (P,), how many are classified rightly."""
    pack, count, layers = weights.shape[0], inputs.shape[0], len(widths) - 1
    widest = widths[1:].max()
    one, two = np.empty(CHUNK * widest, np.float32), np.empty(CHUNK * widest, np.float32)
    for row in range(pack):
        losses[row], correct[row] = 0.0, 0
        for start in range(0, count, CHUNK):
            some = min(CHUNK, count - start)
            values = inputs[start : start + some]
            offset = 0
            for layer in range(layers):
                after = one[: some * widths[layer + 1]].reshape(some, widths[layer + 1])
                _dense(values, weights[row], offset, after)
                if layer + 1 < layers:
                    _relu(after)
                offset += (widths[layer] + 1) * widths[layer + 1]
                values = after
                one, two = two, one
            loss, right = cross_entropy_rows(values, labels[start : start + some])
            losses[row] += loss
            correct[row] += right


@compiled
def _dense(before: np.ndarray, weights: np.ndarray, offset: int, after: np.ndarray) -> None:
    """after = before @ weight + bias, with both at `offset` of a parameter vector (D,)."""
    inside, outside = before.shape[1], after.shape[1]
    bias_at = offset + inside * outside
    np.dot(before, weights[offset:bias_at].reshape(inside, outside), after)
    bias = weights[bias_at : bias_at + outside]
    for place in range(after.shape[0]):
        for unit in range(outside):
            after[place, unit] += bias[unit]


@compiled
def _relu(values: np.ndarray) -> None:
    flat = values.reshape(-1)
    for i in range(len(flat)):
        flat[i] = np.float32(0) if flat[i] < 0 else flat[i]  # NaN stays NaN


@compiled
def _relu_backward(back: np.ndarray, after: np.ndarray) -> None:
    """Zero where the ReLU's output `after` was zero."""
    one, two = back.reshape(-1), after.reshape(-1)
    for i in range(len(one)):
        value = one[i]  # loaded whether wanted or not, which lets the loop be vectorized
        one[i] = value if two[i] > 0 else np.float32(0)


@compiled
def _column_sums(values: np.ndarray, sums: np.ndarray) -> None:
    sums[:] = 0
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            sums[column] += values[row, column]


@compiled
def exponentials(values: np.ndarray, powers: np.ndarray) -> None:
    """values (n,) float32, at most 0, become exp(values) to 3.6e-7 relative, exp(-87) below -87; `powers` (n,) int32: scratch.

    exp(x) = 2^n * exp(r) with x = n ln 2 + r, |r| <= ln 2 / 2: the two-part ln 2 and the polynomial of Cephes' expf.
    """
    for i in range(len(values)):
        x = max(np.float32(-87.0), values[i])
        n = np.floor(x * _LOG2_E + np.float32(0.5))
        r = x - n * _LN2_HIGH - n * _LN2_LOW
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        values[i] = p * (r * r) + r + np.float32(1)
        powers[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
    scale = powers.view(np.float32)
    for i in range(len(values)):
        values[i] *= scale[i]


@compiled
def _shifted(logits: np.ndarray) -> bool:
    """Take each row's largest logit off it; whether all were finite."""
    finite = True
    for row in range(logits.shape[0]):
        top = logits[row, 0]
        for column in range(1, logits.shape[1]):
            top = max(top, logits[row, column])
        span = np.float32(0)
        for column in range(logits.shape[1]):
            logits[row, column] -= top
            span += logits[row, column]
        finite &= np.isfinite(span)
    return finite


@compiled
def softmax_rows(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of logits (B, C), which become its gradient, (softmax - one-hot) / B; NaN if any is not finite."""
    batch, classes = logits.shape
    if not _shifted(logits):
        return np.nan
    total = 0.0
    for row in range(batch):
        total -= logits[row, labels[row]]
    exponentials(logits.reshape(-1), np.empty(batch * classes, np.int32))
    share = np.float32(1) / np.float32(batch)
    for row in range(batch):
        mass = np.float32(0)
        for column in range(classes):
            mass += logits[row, column]
        total += np.log(mass)
        factor = share / mass
        for column in range(classes):
            logits[row, column] *= factor
        logits[row, labels[row]] -= share
    return total / batch


@compiled
def cross_entropy_rows(logits: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """Sum of cross-entropies of logits (B, C), and how many labels (B,) have the largest logit; logits are overwritten.

    The first of equal logits counts. The sum is NaN if any logit is not finite; other rows are still counted as they are.
    """
    batch, classes = logits.shape
    total, right = 0.0, 0
    for row in range(batch):
        right += logits[row].argmax() == labels[row]
    if not _shifted(logits):
        return np.nan, right
    for row in range(batch):
        total -= logits[row, labels[row]]
    exponentials(logits.reshape(-1), np.empty(batch * classes, np.int32))
    for row in range(batch):
        mass = np.float32(0)
        for column in range(classes):
            mass += logits[row, column]
        total += np.log(mass)
    return total, right
