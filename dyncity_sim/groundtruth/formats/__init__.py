"""Label formats: writers that take the labelled frames of a drive one by one."""
