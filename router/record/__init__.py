"""What stays of a request: metrics, and the decision row. One place writes both."""
