"""What another policy would have cost and lost on logged traffic."""
