"""What differs between two states of a run: revisions of the repository, or one and the working tree."""
