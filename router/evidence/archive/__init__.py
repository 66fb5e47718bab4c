"""The archive: rows, pairs and labels as Parquet files in a folder or an object store, and how they are read again."""
