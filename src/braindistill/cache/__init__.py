"""Artifacts named by what they are made of: found again, built once, whole or absent. Knows no fMRI and no networks."""

from braindistill.exports import lazy

__getattr__, __dir__ = lazy(__name__, __path__)
