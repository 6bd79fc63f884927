"""Predictions of a whole file or folder (`make predict`), and of a list of rows (`retrainer.champion`)."""
