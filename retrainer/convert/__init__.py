"""`make convert-weights`: weights that PyTorch pickled, as .safetensors in a network's own names."""
