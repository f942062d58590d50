from braindistill.exports import lazy

__getattr__, __dir__ = lazy(__name__, __path__)
