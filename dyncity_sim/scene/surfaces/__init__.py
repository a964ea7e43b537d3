"""Static geometry: all frames fused into one map, the height of its ground, and its surface as meshes."""
