"""The families behind the backend port of ``dyncity_sim.engine``."""
