"""The weights of an artefact, told from its bytes: no engine opens it, and nothing in it runs."""
