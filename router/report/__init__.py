"""The statement of what was spent: decision rows added up, the teacher-only estimate, and whether all books agree."""
