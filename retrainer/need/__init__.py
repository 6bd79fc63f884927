"""How many more rows a model needs: learning curves, and what an inverse power law says beyond their end."""
