"""Bundles: read with care, written whole, signed, compared, and told as a bill of materials."""
