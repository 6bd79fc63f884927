"""Rows as vectors without any network, good enough for a linear model to have an opinion of a label."""
