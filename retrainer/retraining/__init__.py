"""Whether a scheduled run has reason to train: what is new since the champion, and whether it drifted."""
