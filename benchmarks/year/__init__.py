"""A year of monthly retrains of Banking77 with planted events: `make year`."""
