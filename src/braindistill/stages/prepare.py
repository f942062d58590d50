"""prepare: read an fMRI data set into trials × voxels, checked, preprocessed and joined with its stimuli."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from braindistill import fmri
from braindistill.report.brain import draw_overview
from braindistill.runtime import Runtime


def run(config: dict[str, Any], inputs: dict[str, Path], out: Path, runtime: Runtime) -> None:
    """Write a `Responses` folder, ``summary.txt`` and ``overview.png``.

    Readers fill the artifact's own ``responses.npy`` a session at a time; a simulated subject leaves its raw data set
    in ``dataset/`` beside it.
    """
    options = dict(config["fmri"])
    name = options.pop("name")
    responses = fmri.load(name, workspace=out, **options)
    responses.save(out)
    summary = fmri.summarise(responses, f"fmri={name}")
    (out / "summary.txt").write_text(summary + "\n", encoding="utf-8")
    draw_overview(responses, out / "overview.png")
