"""The cascade's gate: what a student's answer shows of its own worth."""
