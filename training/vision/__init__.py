"""Images of any size inside the artefact, and the models of torchvision by name."""
