"""The default family: a HexPlane stored in one common frame and warped by the ego plan.

The reference model (DynamicCity, Bian et al. 2025) encodes each frame in its own ego view, so that
static structure smears along the ego's motion. Here the plane xy lies still in the ego frame of the
chunk's middle frame; encoder and decoder warp by the plan, which is known because it is a condition.
"""
