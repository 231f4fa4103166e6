"""One function for each figure: data in, matplotlib Figure out."""
