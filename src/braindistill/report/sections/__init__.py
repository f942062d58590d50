"""What each section of the report shows: functions from `Findings` to figures, tables, boxes, passages and lines."""

from braindistill.exports import lazy

__getattr__, __dir__ = lazy(__name__, __path__)
