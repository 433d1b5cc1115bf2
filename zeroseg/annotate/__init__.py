"""Label a whole collection: photos of any number in, one Parquet table and optional masks out."""
