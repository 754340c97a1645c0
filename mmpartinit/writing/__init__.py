"""The only code that writes to a model, and what it wrote."""
