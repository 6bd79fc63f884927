"""Which unlabelled rows to label first."""
