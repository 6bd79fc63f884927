"""Real containers on this machine: the images, and a rehearsal of the pipeline in them."""
