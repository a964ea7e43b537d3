"""The model family ``reference``: DynamicCity's HexPlane autoencoder and diffusion transformer (Bian et al. 2025).

The numbers are those of the published code, its quirks included, so that its weights run here.
"""
