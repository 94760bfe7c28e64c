"""Alembic's folder. Each file under `versions/` is frozen, and says whether it runs before or after the new code."""
