"""Compare the circuits of a distilled language model with its teacher's, and distil circuits themselves."""
