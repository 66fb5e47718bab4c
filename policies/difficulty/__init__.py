"""The difficulty estimator: what a request alone shows of the student's loss on it."""
