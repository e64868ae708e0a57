"""The ways to change a body, one file each."""
