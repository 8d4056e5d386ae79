"""The tiny problem on which each method is looked at: what its tests share."""

from __future__ import annotations

from lowdim_bench import problems
from tests.problems.small import BLOBS, TENSOR, WELL, make_task, small_images, small_problem

IMAGES = {"problem": {"network": {"kind": "resnet", "blocks_per_group": 1, "widths": [2, 2, 2], "norm_groups": 2}}}
TASKS = {
    "blobs": make_task(BLOBS),
    "well": make_task(WELL),
    "tensor": make_task(TENSOR),
    "images": make_task(BLOBS, {"name": "images"} | IMAGES),
}
PROBLEMS = {name: small_problem(TASKS[name]) for name in ("blobs", "well", "tensor")}
PROBLEMS["images"] = problems.build(TASKS["images"], small_images())
_NEEDS = {
    "cp_als": ["tensor"],
    "cp_leverage": ["tensor"],
    "cp_uniform": ["tensor"],
    "bias_only": ["blobs"],
    "data_diet_imp": ["blobs"],
    "fish_mask": ["blobs"],
    "last_layer_only": ["blobs"],
    "normalization_only": ["images"],
    "width": ["blobs"],
}


def tasks_of(name: str) -> list[str]:
    """The tasks of a method: blobs and well, unless it needs what these have not."""
    return _NEEDS.get(name, ["blobs", "well"])
