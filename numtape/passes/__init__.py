"""Program to program: differentiate, simplify, fuse, plan."""
