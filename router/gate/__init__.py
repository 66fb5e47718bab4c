"""What a cascade's gate sees of the student's answer, and whom it asks beside the student."""
