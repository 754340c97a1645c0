"""The rules of a config: read, and matched with a model."""
