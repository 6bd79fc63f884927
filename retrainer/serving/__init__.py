"""MLflow's scoring server over a registered version (`make serve`)."""
