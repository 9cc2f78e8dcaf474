"""Names: what a bucket looks like as directories and files."""
