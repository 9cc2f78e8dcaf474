"""Changes on their way into the Space."""
