"""The release this is; checkpoints, recordings and evaluations name it."""

__version__ = "0.2.0"
