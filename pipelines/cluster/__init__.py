"""Kubeflow Pipelines as its clients: submit, schedule, look, adopt, replay."""
