"""A simulated subject with known truth, written to disk as real data would be and read back by the BIDS reader."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.bids import load_bids
from braindistill.fmri.digit_split import digit_images, digit_roles
from braindistill.fmri.responses import Responses
from braindistill.runtime import numpy_generator

VOXEL_MM, SLICE = 2.0, (10, 10)  # an isotropic grid; voxels fill it slice by slice, a new slice for each ROI
TRIAL_SECONDS, SHOWN_SECONDS = 4.0, 2.0


def load_simulated(
    workspace: Path | None = None,
    *,
    snr: float = 1.0,
    n_repeats: int = 2,
    n_stimuli: int = 400,
    n_early: int = 60,
    n_category: int = 80,
    n_nuisance: int = 80,
    n_runs: int = 4,
    seed: int = 0,
) -> Responses:
    """Simulate a subject that looks at scikit-learn's digits.

    ROIs: ``early`` voxels are Gabor energies of the image (Adelson & Bergen 1985), ``category`` voxels random linear
    readouts of the hidden layer of an observer (a network trained on 700 digits that are used nowhere else), both with
    unit variance over the stimuli shown; each trial adds Gaussian noise of variance 1/snr. ``nuisance`` voxels are
    noise only, of the same total variance 1 + 1/snr, so that variance does not give them away.
    The true ceiling of a signal voxel is 1 / (1 + 1 / (snr · n_repeats)).

    Parameters
    ----------
    workspace : folder that gets the responses' memory map, and in ``dataset/`` the data set and its ``truth.npz``
        (``ceiling``, ``signal`` stimuli × voxels, ``stimulus_id``, voxels as in the Responses); None keeps neither.
    snr : signal variance / noise variance of a single trial.
    n_stimuli : up to 400, class-balanced; each is shown ``n_repeats`` times, a shuffled pass over all for each repeat.
    seed : draws filters, readouts, noise and the order of trials; the observer and the digits stay the same.

    Raises
    ------
    UserError
        A number is out of range, or ``workspace`` already holds a data set.
    """
    counts = {"early": n_early, "category": n_category, "nuisance": n_nuisance}
    _check_options(snr, n_repeats, n_stimuli, n_runs, counts)
    images, labels, ids = digit_images()
    shown = digit_roles()["stimuli"][:n_stimuli]
    signals = {
        "early": _gabor_energy(images[shown, 0] / 255, n_early, seed),
        "category": _read_out(_observe(images, labels, shown), n_category, seed),
        "nuisance": np.zeros((n_stimuli, n_nuisance)),
    }
    signal = np.concatenate([signals[roi] for roi in counts], axis=1)
    quiet = np.repeat(list(counts), list(counts.values())) == "nuisance"

    order = np.concatenate([numpy_generator(seed, "order", r).permutation(n_stimuli) for r in range(n_repeats)])
    noise = numpy_generator(seed, "noise").standard_normal((len(order), signal.shape[1]))
    betas = signal[order] + noise * np.sqrt(np.where(quiet, 1 + 1 / snr, 1 / snr))
    ceiling = np.where(quiet, 0.0, 1 / (1 + 1 / (snr * n_repeats)))

    with tempfile.TemporaryDirectory() as temporary:
        root = workspace / "dataset" if workspace else Path(temporary)
        _create_folders(root)
        np.savez(root / "truth.npz", ceiling=ceiling, signal=signal.astype(np.float32), stimulus_id=ids[shown])
        _write_description(root)
        _write_pictures(root, images[shown, 0], ids[shown])
        index, shape = _lay_out(counts)
        _write_masks(root, counts, index, shape)
        for run, trials in enumerate(np.array_split(np.arange(len(order)), n_runs), start=1):
            stem = root / "func" / f"sub-01_task-digits_run-{run:02d}"
            volume = np.zeros((*shape, len(trials)), dtype=np.float32)
            volume[np.unravel_index(index, shape)] = betas[trials].T
            _save_nifti(volume, stem.with_name(f"{stem.name}_betas.nii.gz"))
            stimuli = shown[order[trials]]
            _write_events(stem.with_name(f"{stem.name}_events.tsv"), labels[stimuli], ids[stimuli])
        return load_bids(workspace, root=root)


def _check_options(snr: float, n_repeats: int, n_stimuli: int, n_runs: int, counts: dict[str, int]) -> None:
    if not 0 < snr < np.inf:
        raise UserError(f"fmri.snr={snr}: expected a number above 0 (signal variance / noise variance of one trial)")
    if n_repeats < 1:
        raise UserError(f"fmri.n_repeats={n_repeats}: expected 1 or more")
    if not 10 <= n_stimuli <= 400:
        raise UserError(f"fmri.n_stimuli={n_stimuli}: expected 10 to 400, the digits kept for stimuli")
    if not 1 <= n_runs <= n_stimuli * n_repeats:
        raise UserError(f"fmri.n_runs={n_runs}: expected 1 to {n_stimuli * n_repeats}, the number of trials")
    if min(counts.values()) < 0 or not any(counts.values()):
        found = ", ".join(f"fmri.n_{roi}={count}" for roi, count in counts.items())
        raise UserError(f"{found}: expected none below 0 and one above it")


def _gabor_energy(images: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Energy of quadrature pairs of Gabor filters at random places, scales and orientations: (stimuli, count)."""
    generator = numpy_generator(seed, "early")
    y, x = np.mgrid[:8, :8].reshape(2, -1, 1)
    across, down = generator.uniform(1.5, 5.5, (2, count))
    scale, angle = generator.uniform(1.0, 2.0, count), generator.uniform(0, np.pi, count)
    along = (x - across) * np.cos(angle) + (y - down) * np.sin(angle)
    window = np.exp(-((x - across) ** 2 + (y - down) ** 2) / (2 * scale**2))
    phase = 2 * np.pi * along / (2.5 * scale)  # 2.5 standard deviations a cycle: about 1.5 octaves of bandwidth
    pixels = images.reshape(len(images), -1)
    return _unit_variance(np.hypot(pixels @ (window * np.cos(phase)), pixels @ (window * np.sin(phase))))


def _observe(images: np.ndarray, labels: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Hidden layer (stimuli, 64) of the observer, trained on its own 700 digits and thrown away."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    own = digit_roles()["observer"]
    pixels = images.reshape(len(images), -1) / 255
    observer = MLPClassifier(hidden_layer_sizes=(64,), max_iter=60, learning_rate_init=0.005, random_state=0)
    with warnings.catch_warnings(), threadpool_limits(1):  # one thread: the same bits on any number of cores
        warnings.simplefilter("ignore", ConvergenceWarning)
        observer.fit(pixels[own], labels[own])
        return np.maximum(pixels[shown] @ observer.coefs_[0] + observer.intercepts_[0], 0)


def _read_out(hidden: np.ndarray, count: int, seed: int) -> np.ndarray:
    return _unit_variance(hidden @ numpy_generator(seed, "category").standard_normal((hidden.shape[1], count)))


def _unit_variance(signal: np.ndarray) -> np.ndarray:
    return (signal - signal.mean(axis=0)) / signal.std(axis=0)


def _create_folders(root: Path) -> None:
    if (root / "func").exists():
        raise UserError(f"{root}: already holds a data set; give a new folder, or remove it")
    for folder in ("func", "masks", "stimuli"):
        (root / folder).mkdir(parents=True)


def _lay_out(counts: dict[str, int]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Flat place of each voxel in a volume of shape (slices, 10, 10); a slice holds voxels of one ROI only."""
    size = SLICE[0] * SLICE[1]
    slices = [-(-count // size) for count in counts.values()]
    starts = np.cumsum([0, *slices[:-1]]) * size
    index = [start + np.arange(count) for start, count in zip(starts, counts.values(), strict=True)]
    return np.concatenate(index), (sum(slices), *SLICE)


def _write_masks(root: Path, counts: dict[str, int], index: np.ndarray, shape: tuple[int, int, int]) -> None:
    rois = np.repeat(list(counts), list(counts.values()))
    for roi in (roi for roi, count in counts.items() if count):
        mask = np.zeros(shape, dtype=np.uint8)
        mask[np.unravel_index(index[rois == roi], shape)] = 1
        _save_nifti(mask, root / "masks" / f"sub-01_{roi}_mask.nii.gz")


def _save_nifti(values: np.ndarray, path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(values, np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])), path)


def _write_events(path: Path, labels: np.ndarray, ids: np.ndarray) -> None:
    rows = [
        f"{trial * TRIAL_SECONDS}\t{SHOWN_SECONDS}\t{label}\t{stimulus}.png"
        for trial, (label, stimulus) in enumerate(zip(labels, ids, strict=True))
    ]
    path.write_text("\n".join(["onset\tduration\ttrial_type\tstim_file", *rows, ""]), encoding="utf-8")


def _write_pictures(root: Path, images: np.ndarray, ids: np.ndarray) -> None:
    from PIL import Image

    for image, stimulus in zip(images, ids, strict=True):
        Image.fromarray(image).save(root / "stimuli" / f"{stimulus}.png")


def _write_description(root: Path) -> None:
    description = {
        "Name": "Simulated subject viewing scikit-learn's handwritten digits",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "braindistill", "Description": "No person was scanned: see fmri/simulated.py"}],
    }
    (root / "dataset_description.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
