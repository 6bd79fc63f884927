"""The training engine on one GPU, beside its peers and the roofs measured in the same run."""
