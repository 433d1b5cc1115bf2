"""Photos and videos encoded once into a table of segments, and any words held against that table afterwards."""
