"""Code as an input: which source files decide what a step makes, and one digest of what they say."""
