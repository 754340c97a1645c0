"""Initializers that MMEngine's ``WEIGHT_INITIALIZERS`` lacks."""
