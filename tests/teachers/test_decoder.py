"""What holds for every decoder."""

from __future__ import annotations

import json

import numpy as np
import pytest

from braindistill.errors import UserError
from braindistill.teachers.decoder import DECODERS, fit_decoder_model, load_decoder
from braindistill.teachers.options import DecoderOptions


def trials(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    waves = 3 * np.sin(np.outer([1, 3], np.arange(20)))
    return (100 + waves[labels] + rng.normal(0, 2, (n, 20))).astype(np.float32), labels


def options(kind: str) -> DecoderOptions:
    return DecoderOptions(decoder=kind, width=4, epochs=8, lr=(0.01,))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", DECODERS)
def test_it_decodes_is_stored_and_goes_on(kind: str) -> None:
    responses, labels = trials(60)
    model = fit_decoder_model(options(kind), responses, np.array([0, 2])[labels], 3, groups=np.arange(60) // 6)
    new, truth = trials(100, 1)
    rows = model.predict(new)
    assert (rows.argmax(1) == np.array([0, 2])[truth]).mean() > 0.8
    assert (rows[:, 1] < -11).all()
    assert rows.dtype == np.float32
    arrays = model.arrays()
    assert all(isinstance(value, np.ndarray) and value.dtype != object for value in arrays.values())
    description = json.loads(json.dumps(model.describe(), allow_nan=False))
    assert description["kind"] == kind
    loaded = load_decoder(description, arrays)
    np.testing.assert_array_equal(loaded.predict(new), rows)
    again = fit_decoder_model(options(kind), *trials(12, 2), 3, start=loaded)
    assert again.describe()["kind"] == kind
    assert (again.predict(new).argmax(1) != 1).any(), "a class without new trials is kept"


@pytest.mark.parametrize("kind", ["lda", "logistic", "ridge", "prototype"])
def test_pure_noise_gives_chance_out_of_fold(kind: str) -> None:
    rng = np.random.default_rng(0)
    right = []
    for _ in range(20):
        responses, labels = rng.normal(size=(40, 15)), np.arange(40) % 2
        for half in (np.arange(40) < 20, np.arange(40) >= 20):
            model = fit_decoder_model(options(kind), responses[half], labels[half], 2)
            right.extend(model.predict(responses[~half]).argmax(1) == labels[~half])
    assert abs(np.mean(right) - 0.5) < 0.02 + 2 * np.sqrt(0.25 / len(right))


def test_one_class_and_unknown_or_other_decoders_are_refused() -> None:
    responses, labels = trials(10)
    with pytest.raises(UserError, match="at least two classes"):
        fit_decoder_model(options("lda"), responses, np.zeros(10, int), 2)
    with pytest.raises(UserError, match=r"teacher\.decoder=logistc.*logistic"):
        fit_decoder_model(options("logistc"), responses, labels, 2)
    older = fit_decoder_model(options("ridge"), responses, labels, 2)
    with pytest.raises(
        UserError, match=r"the older decoder is ridge, this one is to be lda; give teacher\.decoder=ridge"
    ):
        fit_decoder_model(options("lda"), responses, labels, 2, start=older)
