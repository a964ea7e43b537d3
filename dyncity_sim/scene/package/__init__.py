"""The scene package: files that other tools open, written, read back, and checked."""
