"""What is remembered of the Space. Passive: nothing in here sends a request."""
