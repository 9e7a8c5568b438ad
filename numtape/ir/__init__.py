"""The linear program: values, instructions, op records, their text form and their verifier."""
