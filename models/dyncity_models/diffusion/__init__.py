"""Noise processes, their samplers and guidance; they know no network."""
