"""Bytes: what a file holds, from the Space, from memory and from the staging area."""
