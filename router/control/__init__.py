"""What the controllers of all workers know together: counted by each, decided by one, followed by all."""
