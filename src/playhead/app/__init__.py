"""The server that people use."""
