"""What a drive of the family ``anchored`` carries from chunk to chunk: the static world, and who moves in it."""
