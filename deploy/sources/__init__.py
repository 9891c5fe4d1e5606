"""What is compiled: the module, its call, its signature and its samples."""
