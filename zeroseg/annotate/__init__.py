"""Label a whole collection of photos: one Parquet table and optional masks."""
