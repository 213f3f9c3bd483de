"""Images that are there twice: equal in their pixels, nearly so, or copies of one photograph."""
