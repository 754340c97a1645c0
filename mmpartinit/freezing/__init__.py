"""What is named to be frozen does not train."""
