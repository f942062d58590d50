"""Make a large subject, a session a file, in the layout of the Natural Scenes Dataset: nobody was scanned.

    python scripts/make_large_subject.py large --fraction 0.05
    braindistill prepare fmri=nsd fmri.root=large

Each session holds 750 trials as NSD's do (so 30,000 trials are 40 sessions), as int16 percent signal change × 300 in a
gzipped NIfTI; ``nsdgeneral`` marks the voxels, which fill half of the volume. A response is a mixture of eight patterns,
weighted by stimulus, and unit noise. Stimuli (10,000) are shown up to three times, in random order; no pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from braindistill.runtime import numpy_generator, progress

SESSION, STIMULI, IMAGES, SCALE = 750, 10000, 73000, 300
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"


def make_subject(root: Path, sessions: int, voxels: int, seed: int = 0) -> None:
    """Write sessions of ``voxels`` voxels into ``root``."""
    import nibabel
    from scipy.io import savemat

    affine = np.diag([1.8, 1.8, 1.8, 1.0])
    shape = (20, 20, -(-2 * voxels // 400))
    inside = np.zeros(shape, dtype=bool)
    inside.reshape(-1)[numpy_generator(seed, "voxels").permutation(inside.size)[:voxels]] = True
    patterns = numpy_generator(seed, "patterns").standard_normal((8, voxels), dtype=np.float32) / np.sqrt(8)
    weights = numpy_generator(seed, "weights").standard_normal((STIMULI, 8), dtype=np.float32)
    order = numpy_generator(seed, "order").permutation(np.repeat(np.arange(STIMULI), 3))
    for folder in (BETAS, "nsddata/experiments/nsd", "nsddata/ppdata/subj01/func1pt8mm/roi"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    shown = np.array([numpy_generator(seed, "images", subject).permutation(IMAGES)[:STIMULI] for subject in range(8)])
    design = {"masterordering": order[None] + 1, "subjectim": shown + 1}
    savemat(root / "nsddata/experiments/nsd/nsd_expdesign.mat", design)
    mask = nibabel.Nifti1Image(inside.astype(np.int16), affine)
    nibabel.save(mask, root / "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz")
    for session in progress(range(1, sessions + 1), "sessions", total=sessions):
        trials = order[(session - 1) * SESSION : session * SESSION]
        generator = numpy_generator(seed, "noise", session)
        values = weights[trials] @ patterns + generator.standard_normal((SESSION, voxels), dtype=np.float32)
        volume = np.zeros((*shape, SESSION), dtype=np.int16)
        volume[inside] = np.round(values.T * SCALE)
        nibabel.save(nibabel.Nifti1Image(volume, affine), root / BETAS / f"betas_session{session:02d}.nii.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="a new folder")
    parser.add_argument("--trials", type=int, default=30000)
    parser.add_argument("--voxels", type=int, default=20000)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--fraction", type=float, default=1.0, help="make only this part of the sessions")
    given = parser.parse_args()
    if given.trials != SESSION * given.sessions or given.sessions > 40:
        parser.error(f"{given.sessions} sessions of {SESSION} trials are {SESSION * given.sessions} trials; at most 40")
    if given.root.exists():
        parser.error(f"{given.root} exists; give a new folder")
    make_subject(given.root, max(1, round(given.sessions * given.fraction)), given.voxels)


if __name__ == "__main__":
    main()
