"""A folder that is read: listed once, every file of it accounted for."""
