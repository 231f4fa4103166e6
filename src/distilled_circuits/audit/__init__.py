"""Intermediates held against what is recorded of them: `distilled-circuits audit`."""
