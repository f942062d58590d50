"""braindistill: distil the human brain into neural networks, and say with honest statistics whether it helped."""

__version__ = "0.1.0"
