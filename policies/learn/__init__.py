"""Learning from examples: the learners that difficulty and gates share, and the file that a trained policy is."""
