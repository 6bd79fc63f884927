"""Telling a webhook what became of a run: failed, promoted, refused, or nothing new."""
