"""Actors: instances out of voxels, tracks out of instances, boxes, headings and kinds out of tracks."""
