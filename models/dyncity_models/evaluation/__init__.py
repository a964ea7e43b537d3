"""How good weights are, measured against recordings of towns they never saw."""
