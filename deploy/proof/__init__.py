"""Does an artefact compute what the module computes: the oracle, and where they part."""
