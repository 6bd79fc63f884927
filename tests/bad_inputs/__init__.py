"""Inputs that people really give, wrong in one way each, and what must be said of them."""
