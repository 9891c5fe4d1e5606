"""Put a bundle's model into somebody else's program: a Python script, or a C program."""
