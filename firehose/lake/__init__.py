"""Delivered objects read back: each stream as a table for SQL, wherever its objects lie and whatever their form."""
