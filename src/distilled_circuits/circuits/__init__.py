"""From single ablations to circuits: influence, node pruning, path patching, evaluation of a circuit."""
