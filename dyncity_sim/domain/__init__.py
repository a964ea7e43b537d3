"""The nouns: frozen, self-checking, free of I/O. Frames and units as in CONTRIBUTING.md."""
