"""Drives out of any folder, exported as labels in many formats at once."""
