"""A network, run to see what it computes."""
