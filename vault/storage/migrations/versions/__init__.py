"""Migrations, in order. Names: NUMBER_pre|post_WHAT."""
