"""Masks that move in training: what they touch, at once and ever, what is exchanged, and how it is priced and verified."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lowdim_bench import audit
from lowdim_bench.certificates import Certificate
from lowdim_bench.engine import Span, train
from lowdim_bench.errors import AuditFailure, CertificateError
from lowdim_bench.methods import Method, MethodChoice, Preparation, Setting, Train
from lowdim_bench.parametrizations import AffineSubspace, Coordinates, MovingMask, Pack, Rewiring, Standing
from lowdim_bench.parametrizations.draws import draw_mask, draw_order
from lowdim_bench.preparation import prepare_pack
from lowdim_bench.problems import BatchOrder, Ledger, MeteredProblem
from lowdim_bench.records import Estimate, Spending, Trial, TrialResult, price
from lowdim_bench.specs import Recipe
from lowdim_bench.trial import run_pack
from lowdim_bench.verification.evidence import examine
from tests.problems.small import BLOBS, OPTIMIZERS, RECIPE, make_task, small_problem

DRAW = "erdos_renyi_kernel"
TASK = make_task(BLOBS, {"training": {"steps": 40}, "targets": [{"metric": "train_loss", "at_most": 0.9}]})
PROBLEM = small_problem(TASK)
D = PROBLEM.full_dimension
SPANS = [(block.start, block.stop) for block in PROBLEM.blocks]
Growth = Literal["random", "gradient"]


def moving(k: int, active: int, rule: Rewiring, replicate: int = 0) -> AffineSubspace:
    initial = PROBLEM.initial(replicate)
    order = draw_order(DRAW, k, PROBLEM.origin(replicate, 7 + replicate))
    mask = MovingMask(order, SPANS, active, rule, 7 + replicate, DRAW)
    return AffineSubspace(torch.zeros(D), mask, mask.start_at(initial))


class Asks(Method):
    """Asks for a training that moves a mask, where it would cost no k."""

    summary: ClassVar[str] = "asks for what it may not have"
    source: ClassVar[str] = "these tests"

    def prepare(self, setting: Setting) -> Preparation:
        yield Train(moving(setting.k, 1, Rewiring("random", 0.3, 2, 8)), 0, 4)
        return moving(setting.k, 1, Rewiring("random", 0.3, 2, 8))


class Watch:
    """Sees every step: the weights of each trial, and where it stands."""

    every = 1

    def __init__(self, began: Sequence[AffineSubspace]) -> None:
        self.began = began
        self.weights: list[list[Tensor]] = [[one.map(one.start)] for one in began]
        self.stands: list[Standing] = [Standing(one, one.start) for one in began]

    def __call__(self, step: int, rows: Sequence[int], theta: Tensor, pack: Pack) -> list[bool]:
        mapped = pack.map(theta)
        for place, standing in enumerate(pack.stands([self.began[row] for row in rows], theta)):
            row = rows[place]
            self.weights[row].append(mapped[place].clone())
            self.stands[row] = standing
            assert torch.equal(standing.parametrization.map(standing.theta), mapped[place])
        return [step < 3 or row != 1 for row in rows]  # the second trial ends early: the others go on without it


def watched(pack: Sequence[AffineSubspace], replicates: Sequence[int], optimizer: dict[str, Any], steps: int) -> Watch:
    recipe = Recipe.from_data({**RECIPE, "optimizer": optimizer, "steps": steps}, "a recipe of the tests")
    watch = Watch(pack)
    metered = MeteredProblem(PROBLEM, replicates, [Ledger() for _ in pack])
    train(metered, pack, recipe, [0.1] * len(pack), Span(0, steps), watch)
    return watch


def opened(standing: Standing) -> list[int]:
    assert isinstance(standing.parametrization.operator, Coordinates)
    return standing.parametrization.operator.indices.tolist()


def on_record(result: TrialResult) -> tuple[int, int]:
    assert result.audit is not None
    assert result.audit.active_k is not None
    return result.audit.measured_k, result.audit.active_k


@settings(max_examples=20, deadline=None)
@given(
    growth=st.sampled_from(["random", "gradient"]),
    optimizer=st.sampled_from(OPTIMIZERS),
    sizes=st.lists(st.tuples(st.integers(1, D), st.floats(0.05, 1)), min_size=1, max_size=3),
    share=st.floats(0.1, 0.9),
    every=st.integers(1, 4),
)
def test_what_is_not_trained_is_at_its_base_to_the_bit_and_the_union_keeps_its_limit(
    growth: Growth, optimizer: dict[str, Any], sizes: list[tuple[int, float]], share: float, every: int
) -> None:
    rule = Rewiring(growth, share, every, 10)
    pack = [moving(k, max(1, int(part * k)), rule, row) for row, (k, part) in enumerate(sizes)]
    watch = watched(pack, range(len(pack)), optimizer, 12)
    for one, path, standing in zip(pack, watch.weights, watch.stands, strict=True):
        assert isinstance(one.operator, MovingMask)
        away = torch.stack([weights.view(torch.int32) != 0 for weights in path])  # minus zero is not at the base either
        assert int(away.sum(dim=1).max()) <= one.operator.active
        union = opened(standing)
        assert set(away.any(dim=0).nonzero().squeeze(1).tolist()) <= set(union)
        assert len(union) <= one.k
        assert standing.movement is not None
        assert standing.movement.active <= one.operator.active
        assert torch.equal(standing.movement.touched, away[1:].any(dim=0) | away[0])
        if growth == "random":
            origin = replace(PROBLEM.origin(0, 7), seed=one.operator.seed)
            assert union == draw_mask(DRAW, len(union), origin).indices.tolist()


@pytest.mark.parametrize("growth", ["random", "gradient"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_smallest_go_and_others_come_from_zero(growth: Growth, optimizer: dict[str, Any]) -> None:
    """One move, worked out again one tensor at a time."""
    share, k, active = 0.5, 40, 24
    rule = Rewiring(growth, share, 4, 8)
    one = moving(k, active, rule)
    path = watched([one], [0], optimizer, 4).weights[0]
    recipe = Recipe.from_data({**RECIPE, "optimizer": optimizer, "steps": 4}, "a recipe of the tests")
    still = moving(k, active, Rewiring(growth, share, 9, 4))  # the same training, but for the move
    before = watched([still], [0], optimizer, 4).weights[0][-1]
    assert isinstance(one.operator, MovingMask)
    first = set(one.operator.order[:active].tolist())
    assert set(before.nonzero().squeeze(1).tolist()) <= first
    examples = BatchOrder(PROBLEM, [0], recipe.batch_size).examples(3)
    gradient = PROBLEM.loss_and_gradient(path[3].unsqueeze(0), examples)[1][0].abs()
    part = share if growth == "random" else share / 2  # halfway along the cosine
    room = set(one.operator.order[: min(k, active + math.ceil(active * part))].tolist())
    for start, stop in SPANS:
        own = sorted(place for place in first if start <= place < stop)
        count = round(part * len(own))
        dropped = set(sorted(own, key=lambda place: (float(before[place].abs()), place))[:count])
        for place in set(own) - dropped:
            assert path[4][place] == before[place]
        assert not any(float(path[4][place]) for place in range(start, stop) if place not in set(own) - dropped)
        if growth == "gradient":
            limit = sum(start <= place < stop for place in room) - len(own)
            fresh = sorted((p for p in range(start, stop) if p not in own), key=lambda p: (-float(gradient[p]), p))[
                :limit
            ]
            grown = sorted({*fresh, *dropped}, key=lambda p: (-float(gradient[p]), p))[:count]
            later = watched([one], [0], optimizer, 5).weights[0][5]
            moved = {p for p in range(start, stop) if float(later[p])} - (set(own) - dropped)
            assert moved <= set(grown)


def test_a_trial_does_not_feel_its_neighbours() -> None:
    for growth in ("random", "gradient"):
        rule = Rewiring(growth, 0.4, 3, 12)
        pack = [moving(k, k // 2, rule, row) for row, k in enumerate((40, 22, 31))]
        together = watched(pack, [0, 1, 2], {"kind": "adam"}, 12)
        for row in (0, 2):
            alone = watched([pack[row]], [row], {"kind": "adam"}, 12)
            assert opened(alone.stands[0]) == opened(together.stands[row])
            torch.testing.assert_close(alone.weights[0][-1], together.weights[row][-1])
            again = watched(pack, [0, 1, 2], {"kind": "adam"}, 12)
            assert torch.equal(again.weights[row][-1], together.weights[row][-1])


@pytest.mark.parametrize("name", ["set_in_loop", "rigl_in_loop"])
def test_a_trial_is_audited_for_what_it_opened_and_verified_without_its_method(name: str) -> None:
    kept: dict[str, bytes] = {}
    method = MethodChoice(name=name, parameters={"share": 0.5})
    asked = [Trial(k=k, replicate=replicate, round=0) for k, replicate in ((30, 0), (44, 1), (52, 2))]
    results = run_pack(PROBLEM, TASK, method, asked, kept.__setitem__)
    reached = [result for result in results if result.certificate]
    assert len(reached) >= 2
    found = price(results, Estimate(target=TASK.ranked_target.name, status="found", k_star=44))
    near = [on_record(result) for result in results[1:2]]
    assert found is not None
    assert (found.union_k, found.active_k) == (max(union for union, _ in near), max(active for _, active in near))
    assert price([result.model_copy(update={"audit": None}) for result in results], Estimate(target="", status="found"))
    for result in reached:
        union, active = on_record(result)
        assert active <= round(result.trial.k / 2) < union <= result.trial.k
        assert result.audit is not None
        looks = result.preparation.gradient_evaluations
        assert result.preparation.examples == 16 * looks
        assert (looks, result.audit.side_information_bits, result.audit.track) == (
            0,
            0,
            "cold",
        ) or name == "rigl_in_loop"
        if name == "rigl_in_loop":
            assert result.audit.track == "prepared"
            assert looks == min(result.trained_steps, 29)  # 20 updates within 30 steps: at each, and in the end none
            assert result.audit.side_information_bits == audit.subset_bits(D, union)
            assert result.preparation.labels > 16
        content = kept[result.certificate or ""]
        seen = examine(content, result, TASK, method, method.method_digest, PROBLEM)
        assert not seen.findings
        assert int(Certificate.from_bytes(content).theta.count_nonzero()) <= active


@pytest.mark.parametrize(
    ("change", "what"), [({"active_k": 1}, "away from their base"), ({"measured_k": 3}, "measured again")]
)
def test_a_certificate_that_tells_of_fewer_weights_is_found_out(change: dict[str, int], what: str) -> None:
    kept: dict[str, bytes] = {}
    method = MethodChoice(name="rigl_in_loop")
    (result,) = run_pack(PROBLEM, TASK, method, [Trial(k=48, replicate=1, round=0)], kept.__setitem__)
    certificate = Certificate.from_bytes(kept[result.certificate or ""])
    assert result.audit is not None
    lying = result.model_copy(update={"audit": result.audit.model_copy(update=change)})
    claim = certificate.claim.model_copy(update={"audit": lying.audit})
    content = Certificate(claim, certificate.tensors).to_bytes()
    found = examine(content, lying, TASK, method, method.method_digest, PROBLEM).findings
    assert any(finding.what == "audit altered" and what in finding.detail for finding in found)
    still = claim.model_copy(update={"audit": result.audit.model_copy(update={"active_k": None})})
    if still.operator.k < still.trial.k:
        with pytest.raises(CertificateError, match="its trial has k = 48"):
            Certificate.from_bytes(Certificate(still, certificate.tensors).to_bytes())


def test_what_training_did_beyond_its_mask_fails_the_audit() -> None:
    one = moving(30, 15, Rewiring("gradient", 0.3, 2, 8))
    standing = watched([one], [0], {"kind": "adam"}, 8).stands[0]
    origin, before = PROBLEM.origin(0, 7), audit.measure(one, 30, PROBLEM.origin(0, 7), Spending())
    union = len(opened(standing))
    assert audit.measure_trained(standing, 30, origin, Spending(), before).measured_k == union
    with pytest.raises(AuditFailure, match=f"k = {union - 1} numbers, but training opened {union} weights"):
        audit.measure_trained(standing, union - 1, origin, Spending(), before)
    assert standing.movement is not None
    touched = standing.movement.touched.clone()
    touched[next(place for place in range(D) if place not in opened(standing))] = True
    beyond = replace(standing, movement=replace(standing.movement, touched=touched))
    with pytest.raises(AuditFailure, match="1 weights moved in training that it had not opened"):
        audit.measure_trained(beyond, 30, origin, Spending(), before)


def test_where_it_begins_is_priced_before_training() -> None:
    rule = Rewiring("random", 0.3, 2, 8)
    one, origin = moving(30, 15, rule), PROBLEM.origin(0, 7)
    measured = audit.measure(one, 30, origin, Spending())
    assert (measured.measured_k, measured.side_information_bits, measured.track) == (30, 0, "cold")
    assert isinstance(one.operator, MovingMask)
    chosen = MovingMask(one.operator.order.flip(0), SPANS, 15, rule, 7, DRAW)  # the same weights, others of them first
    other = AffineSubspace(torch.zeros(D), chosen, chosen.start_at(PROBLEM.initial(0)))
    assert audit.measure(other, 30, origin, Spending()).side_information_bits == audit.subset_bits(D, 15)
    assert audit.measure(moving(30, 15, Rewiring("gradient", 0.3, 2, 8)), 30, origin, Spending()).track == "prepared"


def test_no_preparation_may_move_a_mask_and_no_cold_task_may_look() -> None:
    setting = Setting(MeteredProblem(PROBLEM, [0], [Ledger()]), 20, 5, TASK.full_training)
    subspace = MethodChoice(name="rigl_in_loop").build().prepare(setting)
    assert isinstance(subspace, AffineSubspace)
    assert isinstance(subspace.operator, MovingMask)
    (item,) = prepare_pack(PROBLEM, TASK, Asks(), [Trial(k=20, replicate=0, round=0)])
    assert "only the scored training may move one" in item.failure
    cold = make_task(BLOBS, {"track": "cold"})
    for name, failed in (("rigl_in_loop", True), ("set_in_loop", False)):
        (result,) = run_pack(small_problem(cold), cold, MethodChoice(name=name), [Trial(k=20, replicate=0, round=0)])
        assert (result.status == "failed") == failed
        assert ("admits no more than track 'cold'" in result.reason) == failed


@pytest.mark.parametrize("active", [0, 6])
def test_more_weights_at_a_time_than_there_are_is_refused(active: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 5 can be trained at a time, not {active}"):
        MovingMask(torch.arange(5), SPANS, active, Rewiring("random", 0.3, 2, 8), 0, DRAW)
