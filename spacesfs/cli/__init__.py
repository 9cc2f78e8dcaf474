"""The command line: thin commands over the parts below, one error line each."""
