"""Noise processes and samplers; pure functions that know no network."""
