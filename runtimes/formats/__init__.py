"""File formats that are read here without the packages that they belong to, and strictly."""
