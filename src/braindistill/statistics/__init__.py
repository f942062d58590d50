"""Intervals, tests and the claim, as pure functions of ``correct`` arrays (seeds × test images).

Seeds and test images are both random samples, and crossed: the same seeds and the same images serve every arm. So a
mean carries the variance of both, and two arms are compared by the differences of their paired cells.
"""

from braindistill.exports import lazy

__getattr__, __dir__ = lazy(__name__, __path__)
