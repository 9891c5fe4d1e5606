"""Hand a bundle over to an engine that serves many machines: Triton, KServe, Ray Serve."""
