"""Readers of fMRI data sets: each file ``NAME.py`` has a ``load_NAME`` that returns `Responses`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from braindistill.exports import definitions, lazy

if TYPE_CHECKING:
    from braindistill.fmri.responses import Responses

__getattr__, __dir__ = lazy(__name__, __path__)


def load(name: str, **options: Any) -> Responses:
    """Read a data set, check it, leave out constant voxels and estimate the noise ceiling where stimuli repeat.

    Parameters
    ----------
    name : ``arrays``, ``bids``, ``digits69``, ``simulated``, …
    options : the keyword-only parameters of ``load_NAME`` (paths may be strings), and ``workspace``, a new folder that
        a reader may write into.

    Raises
    ------
    UserError
        The name or an option is unknown, an option is missing, or the data contradict themselves.
    """
    from braindistill.errors import UserError, nearest
    from braindistill.fmri.reliability import noise_ceiling
    from braindistill.runtime import say

    readers = [reader.removeprefix("load_") for reader in definitions(Path(__path__[0])) if reader.startswith("load_")]
    if name not in readers:
        raise UserError(f"fmri={name}: no such data set; {nearest(name, readers)}")
    reader = __getattr__(f"load_{name}")
    responses = reader(**_options(name, inspect.signature(reader), options))
    responses.check(f"fmri={name}")
    responses, dropped = responses.drop_constant()
    if not responses.responses.shape[1]:
        raise UserError(
            f"fmri={name}: all {dropped} voxels are constant over trials; check that the responses were stored"
        )
    if dropped:
        say(f"fmri={name}: left out {dropped} voxels that are constant over all trials")
    if responses.ceiling is None:
        responses.ceiling = noise_ceiling(responses.responses, responses.stimulus_id)
    return responses


def _options(name: str, signature: inspect.Signature, given: dict[str, Any]) -> dict[str, Any]:
    """Check option names against the reader's signature, and make a Path of a str where it wants one."""
    from braindistill.errors import UserError, nearest

    known = signature.parameters
    for option in given:
        if option not in known:
            raise UserError(f"fmri.{option}: fmri={name} has no such option; {nearest(option, known)}")
    missing = [key for key, option in known.items() if option.default is option.empty and key not in given]
    if missing:
        raise UserError(f"fmri={name} needs {' and '.join(f'fmri.{key}=…' for key in missing)}")
    return {
        key: Path(value).expanduser() if isinstance(value, str) and "Path" in str(known[key].annotation) else value
        for key, value in given.items()
    }
