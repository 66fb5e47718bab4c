"""The loss map: what the compression dropped, by slice of a route's traffic."""
