"""The road: middle lines of what was seen of it, lanes along and across the drive, and OpenDRIVE of them."""
