"""The generators: a HexPlane autoencoder and a diffusion transformer over its latents (torch).

Axis letters of every tensor suffix: B batch, T frames, P frame pairs, X forward cells, Y left cells,
Z up cells, C channels, D model width, L tokens, K semantic classes.
"""
