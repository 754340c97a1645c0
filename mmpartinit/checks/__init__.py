"""What cannot be done, and what else the user should see."""
