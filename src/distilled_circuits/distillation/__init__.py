"""Circuit distillation: matching heads by impact, aligning their activations by CKA, training and evaluating."""
