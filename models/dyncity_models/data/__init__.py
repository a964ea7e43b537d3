"""Recordings to training samples."""
