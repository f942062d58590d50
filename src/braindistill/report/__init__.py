"""What a person reads: the table, the figures and the HTML page."""

from braindistill.exports import lazy

__getattr__, __dir__ = lazy(__name__, __path__)
