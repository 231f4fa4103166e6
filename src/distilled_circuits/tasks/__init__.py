"""Contrastive tasks: prompts with an answer, a distractor, a corrupted twin and the positions that matter."""
