"""Careless months on three real datasets, and what stops them."""
