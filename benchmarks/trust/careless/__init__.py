"""Careless months on three real datasets: what stops them, and what others' pipelines do with these rows."""
