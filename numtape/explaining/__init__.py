"""`explain`: what a program is made of, what it costs, and why it was made."""
