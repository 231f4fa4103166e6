"""One thin module a stage: read the inputs that dvc.yaml declares, call the core, write the artifact."""
