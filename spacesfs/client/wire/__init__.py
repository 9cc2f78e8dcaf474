"""HTTP/1.1 on trio, below httpx's client: bodies go from the socket straight into the caller's memory, and back."""
