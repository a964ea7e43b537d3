"""The family ``reference`` as a backend: its networks in one pipeline, and requests to its conditions and back."""
