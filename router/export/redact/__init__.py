"""Personal data and secrets in a record, replaced by placeholders that say what stood there."""
