"""The sub-commands: each parses its options and calls a plain function. Heavy imports wait inside the functions."""
