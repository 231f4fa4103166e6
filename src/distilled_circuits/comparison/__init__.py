"""Teacher against student: influence scores, MLP directions, matching, the alignment score, noise."""
