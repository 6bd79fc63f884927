"""Retrainer: retrain your model every month, promote only what is really better."""

__version__ = "0.1.0"
