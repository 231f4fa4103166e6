"""What components do: role detectors, activation patching, scores of OV circuits, linear probes."""
