"""What an encoder is fitted on: pictures (or their features) and averaged responses, joined on the stimulus id."""

from __future__ import annotations

from typing import Any

import numpy as np

from braindistill.errors import UserError
from braindistill.fmri.responses import Responses
from braindistill.images import fit_pictures
from braindistill.runtime import Runtime, derive
from braindistill.teachers.brain_teacher import BrainTeacher
from braindistill.teachers.encoder import fit_ridge
from braindistill.teachers.features import ImageFeatures
from braindistill.teachers.folds import stimuli_of
from braindistill.teachers.options import EncoderOptions, FeatureOptions
from braindistill.teachers.stimulus_features import StimulusFeatures, picture_rows


class EncoderFit:
    """Fits encoders on some of a subject's stimuli, and predicts others.

    Attributes
    ----------
    averaged : (stimuli × voxels) float32, mean over repeats; stimuli sorted by id, as `stimuli_of` has them
    reader : what the encoder reads from a picture
    support : (stimuli × features) that encoders in kernel form refer to, or None
    """

    def __init__(
        self,
        data: Responses,
        averaged: np.ndarray,
        stimuli: StimulusFeatures,
        features: FeatureOptions,
        encoding: EncoderOptions,
        seed: int,
        runtime: Runtime,
        start: BrainTeacher | None,
    ) -> None:
        names, _ = stimuli_of(data)
        self.averaged = averaged
        self._rows = stimuli.rows_of(names)
        self._stimuli, self._features, self._encoding = stimuli, features, encoding
        self._seed, self._runtime, self._ceiling, self._start = seed, runtime, data.ceiling, start
        assert stimuli.reader is not None
        older = None if start is None else start.encoders[0].describe()["kind"]
        if older is not None and (older == "finetune") != (encoding.encoder == "finetune"):
            raise UserError(
                f"teacher.init_from: the older encoder is {older}, and this one is to be {encoding.encoder}; "
                "a network goes on from a network, and ridge from ridge"
            )
        self._network = encoding.encoder == "finetune"
        self.reader = stimuli.reader
        self._inputs: np.ndarray = stimuli.values
        self.support: np.ndarray | None = None
        if self._network:
            self.reader = ImageFeatures("images", stimuli.reader.shape)
            assert data.images is not None
            self._inputs = fit_pictures(np.asarray(data.images)[picture_rows(data)], self.reader.shape)
            self._rows = np.arange(len(names))

    def fit(self, stimuli: np.ndarray, k: int) -> Any:
        """Fit an encoder on some stimuli (indices); ``k`` is the fold, which seeds it and says what it may continue."""
        rows, responses = self._rows[stimuli], self.averaged[stimuli]
        start = None if self._start is None else self._start.encoders[k]
        if not self._network:
            banded = self._encoding.encoder == "banded"
            encoder = fit_ridge(self._stimuli, rows, responses, banded=banded, device=self._runtime.device, start=start)
            if encoder.support is not None:
                self.support = self._stimuli.values
            return encoder
        from braindistill.teachers.finetune import fit_finetuned

        return fit_finetuned(
            self._inputs,
            rows,
            responses,
            self._ceiling,
            self._features,
            self._encoding,
            derive(self._seed, "encoder", k),
            None,
            self._runtime,
            start,
        )

    def predict(self, encoder: Any, stimuli: np.ndarray) -> np.ndarray:
        """Predicted responses of some stimuli (stimuli × voxels)."""
        return encoder.predict(np.asarray(self._inputs[self._rows[stimuli]]))
