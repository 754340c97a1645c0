"""A model by path, its tensors, and which of them were loaded."""
