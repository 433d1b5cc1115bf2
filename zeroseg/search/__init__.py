"""Encode photos and videos once into a table of segments, then search that table by any words."""
