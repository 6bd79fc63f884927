"""What the promises of trust come to: the gate, duplicates, labels."""
