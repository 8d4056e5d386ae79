"""Methods and tasks that installed packages add: found when asked for, named with their package, refused where names clash."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from lowdim_bench.errors import UserError
from lowdim_bench.methods import METHODS, MethodChoice, choose, method_names, parse_choice
from lowdim_bench.specs import installed_tasks, load_task, task_names
from lowdim_bench.validation import validate_installed
from tests.installed.conftest import METHOD, Install


def forget(folder: Path) -> None:
    """Have the next import look at the disk again."""
    for name in [name for name in sys.modules if name.startswith(("more_methods", "other_methods"))]:
        del sys.modules[name]
    for path in folder.rglob("*.pyc"):
        path.unlink()
    importlib.invalidate_caches()


def test_an_installed_method_is_chosen_by_its_name(install: Install) -> None:
    assert method_names() == list(METHODS)
    install()
    assert method_names() == [*METHODS, "first_weights"]
    choice = parse_choice("first_weights,skip=3")
    assert type(choice.build()).__name__ == "FirstWeights"
    assert choice.build().model_dump() == {"skip": 3}
    assert choice.origin.startswith("more-methods==1.2 ")
    assert MethodChoice.model_validate_json(choice.model_dump_json()) == choice
    with pytest.raises(UserError, match=r"Unknown method 'first_weight'.*Did you mean 'first_weights'\?"):
        choose("first_weight")


def test_its_package_version_and_source_are_part_of_its_digest(install: Install) -> None:
    folder = install()
    first = choose("first_weights")
    digests = [first.method_digest]
    assert digests == [choose("first_weights", {"skip": 0}).method_digest]
    (folder / "more_methods" / "methods.py").write_text(METHOD + "\n# changed\n")
    forget(folder)
    digests.append(choose("first_weights").method_digest)
    (folder / "more_methods-1.2.dist-info").rename(folder / "gone")
    install(version="1.3")
    forget(folder)
    digests.append(choose("first_weights").method_digest)
    assert len(set(digests)) == 3
    with pytest.raises(UserError, match=r"was chosen from more-methods==1.2 .* but is more-methods==1.3 .* here"):
        first.build()


def test_an_installed_task_is_loaded_by_its_name(install: Install) -> None:
    install()
    assert list(installed_tasks()) == ["digits-more"]
    assert load_task("digits-more").name == "digits-more"
    assert "digits-more" not in task_names()
    with pytest.raises(UserError, match=r"Unknown task 'digits-mor'.*Did you mean 'digits-more'\?"):
        load_task("digits-mor")


@pytest.mark.parametrize(
    ("points", "kind"),
    [
        ("[lowdim_bench.methods]\nimp = more_methods.methods:FirstWeights\n", "method"),
        ("[lowdim_bench.tasks]\ndigits-mlp = more_methods.tasks\n", "task"),
    ],
)
def test_the_name_of_what_ships_is_refused(install: Install, points: str, kind: str) -> None:
    install(points=points)
    with pytest.raises(UserError, match=f"more-methods==1.2 adds a {kind} named '.*', which lowdim-bench ships itself"):
        list(validate_installed())
    assert choose("imp").origin == ""
    assert load_task("digits-mlp").name == "digits-mlp"


def test_two_packages_with_one_name_are_refused(install: Install) -> None:
    install()
    install(name="other-methods", version="0.1")
    with pytest.raises(
        UserError, match=r"Packages more-methods==1\.2 and other-methods==0\.1 both add a method named 'first_weights'"
    ):
        choose("first_weights")
    with pytest.raises(UserError, match="both add a task named 'digits-more'"):
        load_task("digits-more")


@pytest.mark.parametrize(
    ("method", "points", "reason"),
    [
        ("1 / 0", None, "cannot be imported: ZeroDivisionError"),
        ("FirstWeights = 3", None, "must be a class derived from lowdim_bench.methods.Method"),
        (METHOD, "[lowdim_bench.methods]\nfirst_weights = more_methods.nowhere:X\n", "ModuleNotFoundError"),
    ],
)
def test_a_broken_package_is_named(install: Install, method: str, points: str | None, reason: str) -> None:
    install(method=method, points=points)
    with pytest.raises(UserError, match=f"(?s)'first_weights' of package more-methods==1.2.*{reason}"):
        choose("first_weights")


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ("[lowdim_bench.tasks]\ndigits-more = nowhere.tasks\n", "cannot be read: No module named 'nowhere'"),
        (
            "[lowdim_bench.tasks]\nanother = more_methods.tasks\n",
            "another.yaml in more_methods.tasks .* cannot be read",
        ),
    ],
)
def test_a_task_that_is_not_there_is_told(install: Install, points: str, reason: str) -> None:
    install(points=points)
    with pytest.raises(UserError, match=reason):
        load_task(next(iter(installed_tasks())))


@pytest.mark.slow
def test_installed_methods_and_tasks_are_held_to_the_contract(install: Install) -> None:
    install()
    findings = list(validate_installed())
    assert {subject for subject, _ in findings} == {
        "method first_weights (more-methods==1.2)", "task digits-more (more-methods==1.2)"
    }  # fmt: skip
    assert not [finding for _, finding in findings if not finding.passed]
    assert {"imports", "exactly k", "other process", "training"} <= {finding.check for _, finding in findings}


def test_what_an_installed_method_breaks_is_found(install: Install) -> None:
    install(method=METHOD.replace("torch.arange(self.skip, self.skip + setting.k)", "torch.arange(setting.k + 1)"))
    failed = {finding.check for _, finding in validate_installed() if not finding.passed}
    assert failed == {"preparation", "exactly k", "nested"}  # at the largest k alone
