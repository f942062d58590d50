"""What ``eval`` says about finished students: measures, comparisons and claims, and what stands behind each arm."""

from braindistill.exports import lazy

__getattr__, __dir__ = lazy(__name__, __path__)
