"""The runs of training/ablations.py and training/additions.py: their options, grid, tables and report."""
