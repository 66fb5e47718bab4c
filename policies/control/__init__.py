"""Controllers: from an expected loss to an arm, within a threshold, a budget's pace and a certified floor."""
