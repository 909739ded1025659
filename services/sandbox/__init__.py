"""Stand-ins for both partners in one process, written from schemas/partners alone."""
