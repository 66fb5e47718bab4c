"""API keys in Redis: their records, how they are created and revoked, and how every worker keeps up with them."""
