"""Training beside its peers: same files, initial weights, epochs, batches and evaluations, other code."""
