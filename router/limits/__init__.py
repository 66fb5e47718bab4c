"""Rate limits: token buckets in Redis, of which each worker leases slices."""
