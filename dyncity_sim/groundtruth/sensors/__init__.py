"""What sensors would measure: rays through voxels, LiDARs, cameras, and what they leave unseen."""
