"""The project's own errors, and the one way in which they are worded.

Every message says what was asked, what came, what is valid and what to do. A `UserError` is shown bare, with exit code 2;
anything that is not a `LowdimError` is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LowdimError(Exception):
    """Base of all errors that this project raises on purpose."""


class UserError(LowdimError):
    """Something that the person at the keyboard can put right."""


class MethodFailure(LowdimError):
    """A method broke its contract: it raised, returned the wrong shape, NaN or the wrong k, or overspent its budget."""


class AuditFailure(MethodFailure):
    """The measured degrees of freedom of a parametrization are not what its trial allows."""


class BudgetExceeded(MethodFailure):
    """Preparation asked for more gradient evaluations than the task allows."""


class CertificateError(LowdimError):
    """A file is no certificate, or its certificate does not fit the problem that it speaks of."""


class InfrastructureError(LowdimError):
    """A worker, node or server failed often enough that the work on it was given up; finished trials are kept."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """An error for a name that is not in a closed list, with the nearest valid one."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return UserError(f"Unknown {kind} '{name}'. Known: {', '.join(choices) or '(none)'}.{hint}")
