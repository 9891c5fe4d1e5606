"""Operators and functions of torch, written so that what is exported of them is right."""
