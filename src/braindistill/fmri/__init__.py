"""Readers of fMRI data sets: each file ``NAME.py`` has a ``load_NAME`` that returns `Responses`."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from braindistill.exports import definitions, lazy

if TYPE_CHECKING:
    from braindistill.fmri.responses import Responses

__getattr__, __dir__ = lazy(__name__, __path__)


def load(name: str, **options: Any) -> Responses:
    """Read a data set, check it and preprocess it: unusable voxels go, and repeats give a noise ceiling.

    Parameters
    ----------
    name : ``arrays``, ``bids``, ``digits69``, ``simulated``, …
    options : the keyword-only parameters of ``load_NAME`` and of `preprocess` (paths may be strings), and
        ``workspace``, a folder that large arrays are written into. ``subject`` may be a list where ``load_NAME`` has
        that option: each subject is read and preprocessed, then `combine_subjects` joins them as ``combine`` says.

    Raises
    ------
    UserError
        The name or an option is unknown, an option is missing, or the data contradict themselves.
    """
    from braindistill.errors import UserError, nearest
    from braindistill.fmri.combine import combine_subjects
    from braindistill.fmri.preprocessing import preprocess
    from braindistill.fmri.reliability import noise_ceiling

    readers = [reader.removeprefix("load_") for reader in definitions(Path(__path__[0])) if reader.startswith("load_")]
    if name not in readers:
        raise UserError(f"fmri={name}: no such data set; {nearest(name, readers)}")
    reader = __getattr__(f"load_{name}")
    own, shared, joint = map(_options, (reader, preprocess, combine_subjects))
    known = own | shared | (joint if "subject" in own else {})
    for option in options:
        if option not in known and option != "workspace":
            raise UserError(f"fmri.{option}: fmri={name} has no such option; {nearest(option, known)}")
    missing = [key for key, option in own.items() if option.default is option.empty and key not in options]
    if missing:
        raise UserError(f"fmri={name} needs {' and '.join(f'fmri.{key}=…' for key in missing)}")
    given: dict[str, Any] = {
        key: Path(value).expanduser() if isinstance(value, str) and "Path" in str(known[key].annotation) else value
        for key, value in options.items()
        if key != "workspace"
    }

    def read(workspace: Path | None, **changed: Any) -> Responses:
        chosen = given | changed
        responses = reader(workspace, **{key: value for key, value in chosen.items() if key in own})
        responses.check(f"fmri={name}", values=False)
        return preprocess(responses, workspace, **{key: value for key, value in chosen.items() if key in shared})

    workspace = Path(options["workspace"]) if options.get("workspace") else None
    subjects = given.get("subject")
    if not isinstance(subjects, list | tuple):
        return read(workspace)
    parts = [workspace / f"subject-{subject}" if workspace else None for subject in subjects]
    each = [read(part, subject=subject) for part, subject in zip(parts, subjects, strict=True)]
    joined = combine_subjects(
        each,
        [f"sub{subject}" for subject in subjects],
        workspace,
        **{key: value for key, value in given.items() if key in joint},
    )
    if joined.ceiling is None:
        joined.ceiling = noise_ceiling(joined.responses, joined.stimulus_id)
    for part in parts:
        if part:
            shutil.rmtree(part, ignore_errors=True)
    return joined


def _options(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a function: what a config can set."""
    parameters = inspect.signature(function).parameters
    return {key: option for key, option in parameters.items() if option.kind is option.KEYWORD_ONLY}
