"""Next characters of a bundled text, and the transformer that predicts them."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from lowdim_bench import problems
from lowdim_bench.errors import MethodFailure, UserError
from lowdim_bench.problems.base import Problem
from lowdim_bench.problems.networks.base import split
from lowdim_bench.problems.networks.transformer import Transformer
from lowdim_bench.problems.next_character import TextProblem
from lowdim_bench.problems.text_data import text_windows
from lowdim_bench.specs.problem import BundledText, NextCharacter, TransformerNetwork
from tests.problems.small import TEXT, make_task, small_problem

TEXTS = Path(problems.__file__).parent / "texts"
NETWORK = TransformerNetwork(kind="transformer", layers=2, width=6, heads=3, context=8)


def spec(context: int = 8, **data: int) -> NextCharacter:
    text = BundledText(kind="bundled_text", text="as_you_like_it", **data)
    return NextCharacter(kind="next_character", data=text, network=NETWORK.model_copy(update={"context": context}))


def problem() -> TextProblem:
    built = small_problem(make_task(TEXT))
    assert isinstance(built, TextProblem)
    return built


def test_the_text_is_the_one_whose_source_is_stated() -> None:
    content = (TEXTS / "as_you_like_it.txt").read_bytes()
    assert hashlib.sha256(content).hexdigest() in (TEXTS / "README.md").read_text()
    assert len(content) == 125_179
    assert b"All the world's a stage," in content


def test_windows_are_the_text_in_order_each_with_what_follows() -> None:
    text = (TEXTS / "as_you_like_it.txt").read_text()
    alphabet = sorted(set(text))
    arrays = text_windows(spec(train_characters=100, test_characters=50))
    read = {name: ["".join(alphabet[place] for place in row) for row in rows] for name, rows in arrays.items()}
    assert "".join(read["x_train"]) == text[:96]
    assert "".join(read["y_train"]) == text[1:97]
    assert "".join(read["x_test"]) == text[-50:][:48]
    assert "".join(read["y_test"]) == text[-50:][1:49]
    assert arrays["x_train"].shape == (12, 8)
    assert len(text_windows(spec())["x_train"]) == (len(text) - 12_000 - 1) // 8


@pytest.mark.parametrize(
    ("data", "context", "reason"),
    [
        ({"train_characters": 120_000}, 8, "12,000 for the test set and 120,000 for training are more than there are"),
        ({"test_characters": 130_000}, 8, "more than there are"),
        ({"train_characters": 30}, 32, "A window takes 33 characters, but the train set has 30"),
        ({"test_characters": 8}, 8, "A window takes 9 characters, but the test set has 8: give more test_characters"),
    ],
)
def test_a_text_that_is_too_short_is_refused(data: dict[str, int], context: int, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        text_windows(spec(context, **data))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValidationError, match=r"heads \(4\) must divide width \(6\)"):
        TransformerNetwork(kind="transformer", layers=1, width=6, heads=4, context=8)


@pytest.mark.parametrize(("layers", "width", "context"), [(1, 4, 6), (2, 32, 32), (3, 12, 20)])
def test_parameters_are_counted_exactly(layers: int, width: int, context: int) -> None:
    """12 W^2 + 13 W a layer, as of GPT-2; tables, last normalization, and a head of its own."""
    network = Transformer(
        TransformerNetwork(kind="transformer", layers=layers, width=width, heads=2, context=context), 68
    )
    count = network.blocks[-1].stop
    assert count == layers * (12 * width**2 + 13 * width) + (68 + context) * width + 2 * width + 68 * width + 68
    assert len({block.name for block in network.blocks}) == len(network.blocks)
    if (layers, width, context) == (2, 32, 32):
        assert count == 30_916


class Reference(nn.Module):
    """The same from torch's own layers, one parameter vector at a time."""

    def __init__(self, network: Transformer, flat: Tensor) -> None:
        super().__init__()
        self._of = {block.name: flat[block.start : block.stop].view(block.shape) for block in network.blocks}

    def _norm(self, name: str, values: Tensor) -> Tensor:
        return functional.layer_norm(values, values.shape[-1:], self._of[f"{name}.scale"], self._of[f"{name}.shift"])

    def _dense(self, name: str, values: Tensor) -> Tensor:
        return functional.linear(values, self._of[f"{name}.weight"].T, self._of[f"{name}.bias"])

    def _attention(self, name: str, values: Tensor) -> Tensor:
        width, heads = NETWORK.width, NETWORK.heads
        layer = nn.MultiheadAttention(width, heads, batch_first=True, dtype=values.dtype)
        later = torch.ones(values.shape[1], values.shape[1], dtype=torch.bool).triu(1)
        named = {
            "in_proj_weight": self._of[f"{name}.query_key_value.weight"].T,
            "in_proj_bias": self._of[f"{name}.query_key_value.bias"],
            "out_proj.weight": self._of[f"{name}.attention_out.weight"].T,
            "out_proj.bias": self._of[f"{name}.attention_out.bias"],
        }
        attended = torch.func.functional_call(
            layer, named, (values, values, values), {"attn_mask": later, "need_weights": False}
        )
        return attended[0]

    def forward(self, characters: Tensor) -> Tensor:
        values = self._of["embedding.character"][characters] + self._of["embedding.position"][: characters.shape[1]]
        for layer in range(NETWORK.layers):
            name = f"layer{layer}"
            values = values + self._attention(name, self._norm(f"{name}.attention_norm", values))
            inner = functional.gelu(self._dense(f"{name}.network_in", self._norm(f"{name}.network_norm", values)))
            values = values + self._dense(f"{name}.network_out", inner)
        return self._dense("head", self._norm("last_norm", values))


def drawn(pack: int) -> tuple[Transformer, Tensor, Tensor]:
    """A network, parameter vectors (pack, D) in float64, and windows (pack, 5, 8) of characters."""
    network, generator = Transformer(NETWORK, 11), torch.Generator().manual_seed(4)
    weights = torch.randn(pack, network.blocks[-1].stop, generator=generator, dtype=torch.float64) * 0.4
    return network, weights, torch.randint(0, 11, (pack, 5, 8), generator=generator)


def test_logits_are_those_of_torch_s_own_layers() -> None:
    network, weights, windows = drawn(3)
    logits = network.forward(split(network.blocks, weights), windows)
    assert logits.shape == (3, 5, 8, 11)
    shared = network.forward(split(network.blocks, weights), windows[:1])
    for row in range(3):
        reference = Reference(network, weights[row])
        torch.testing.assert_close(logits[row], reference(windows[row]), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(shared[row], reference(windows[0]), rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_torch_s_own_layers() -> None:
    network, weights, windows = drawn(2)
    leaf, other = (weights.clone().requires_grad_() for _ in range(2))
    network.forward(split(network.blocks, leaf), windows).square().sum().backward()
    torch.stack([Reference(network, other[row])(windows[row]).square().sum() for row in range(2)]).sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-8, atol=1e-8)


def test_later_characters_do_not_change_earlier_logits() -> None:
    network, weights, windows = drawn(2)
    parts = split(network.blocks, weights)
    before = network.forward(parts, windows)
    for place in range(1, 8):
        changed = windows.clone()
        changed[:, :, place] = (changed[:, :, place] + 1) % 11
        after = network.forward(parts, changed)
        assert torch.equal(after[:, :, :place], before[:, :, :place])
        assert not torch.isclose(after[:, :, place], before[:, :, place]).all()


def test_earlier_characters_do_change_later_logits() -> None:
    network, weights, windows = drawn(1)
    parts, changed = split(network.blocks, weights), windows.clone()
    changed[:, :, 0] = (changed[:, :, 0] + 1) % 11
    assert not torch.isclose(network.forward(parts, changed)[0, :, 7], network.forward(parts, windows)[0, :, 7]).all()


def test_loss_accuracy_and_gradient_belong_together() -> None:
    built = problem()
    weights = torch.stack([built.initial(0), built.initial(1)]) * 1.5
    arrays = text_windows(make_task(TEXT).problem)  # type: ignore[arg-type]
    logits = built.network.forward(split(built.blocks, weights), torch.from_numpy(arrays["x_train"]).unsqueeze(0))
    wanted = torch.from_numpy(arrays["y_train"])
    losses = [float(functional.cross_entropy(one.flatten(0, 1), wanted.flatten())) for one in logits]
    metrics = built.train_metrics(weights)
    loss, gradient = built.loss_and_gradient(weights, None)
    assert metrics.loss.tolist() == pytest.approx(losses, rel=1e-5)
    assert loss.tolist() == pytest.approx(losses, rel=1e-5)
    assert metrics.accuracy is not None
    right = (logits.argmax(dim=3) == wanted).double().mean(dim=(1, 2))
    assert metrics.accuracy.tolist() == pytest.approx(right.tolist())
    picked = torch.tensor([[3, 9, 4], [0, 1, 2]])
    assert float(built.loss_and_gradient(weights, picked)[0][0]) == pytest.approx(
        float(functional.cross_entropy(logits[0][picked[0]].flatten(0, 1), wanted[picked[0]].flatten())), rel=1e-5
    )
    step = 1e-3 * gradient
    ends = [built.train_metrics(weights + sign * step).loss for sign in (1, -1)]
    assert ((ends[0] - ends[1]) / 2).tolist() == pytest.approx((gradient * step).sum(dim=1).tolist(), rel=1e-2)
    accuracy = built.test_accuracy(weights)
    assert accuracy.shape == (2,)
    assert built.chance_loss == pytest.approx(math.log(68))


def test_products_with_the_hessian_are_differences_of_gradients() -> None:
    built = problem()
    weights = torch.stack([built.initial(0), built.initial(1)])
    vectors = torch.randn(weights.shape, generator=torch.Generator().manual_seed(0))
    step = 1e-2 / vectors.norm(dim=1, keepdim=True)
    ends = [built.loss_and_gradient(weights + sign * step * vectors, None)[1] for sign in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * step)
    product = built.hessian_vector(weights, vectors, None)
    assert float((product - expected).norm() / expected.norm()) < 0.01
    some = torch.tensor([[1, 5], [2, 3]])
    both = built.hessian_vector(weights, vectors, some)
    torch.testing.assert_close(both[1:], built.hessian_vector(weights[1:], vectors[1:], some[1:]))


def test_a_row_gets_the_same_bits_in_every_pack() -> None:
    built = problem()
    weights = torch.stack([built.initial(replicate) for replicate in range(3)])
    picked = torch.arange(12).view(3, 4)
    together, measured = built.loss_and_gradient(weights, picked), built.train_metrics(weights)
    for row in range(3):
        alone = built.loss_and_gradient(weights[row : row + 1].clone(), picked[row : row + 1])
        assert torch.equal(together[1][row], alone[1][0])
        assert torch.equal(built.train_metrics(weights[row : row + 1].clone()).loss, measured.loss[row : row + 1])


def test_operations_are_counted_by_hand() -> None:
    """1 layer, W = 4, T = 6, C = 68: 12 W^2 + C W products at each place, and 2 W more for each pair of places."""
    task = make_task(TEXT)
    assert problems.forward_operations(task, {}) == 2 * 6 * (12 * 16 + 68 * 4 + 2 * 6 * 4)


def test_what_it_has_not_is_refused() -> None:
    built: Problem = problem()
    weights = built.initial(0).unsqueeze(0)
    with pytest.raises(MethodFailure, match="no labelled examples"):
        built.error_norms(weights)
    with pytest.raises(MethodFailure, match="synaptic flow"):
        built.synaptic_flow(weights[0])
    assert np.isfinite(float(built.train_metrics(weights).loss))
