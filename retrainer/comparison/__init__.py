"""`make compare`: registered versions and reports of runs side by side."""
