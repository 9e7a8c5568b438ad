"""Groups to kernel source, and source to machine code."""
