"""What people look at: figures, tables and self-contained HTML pages."""
