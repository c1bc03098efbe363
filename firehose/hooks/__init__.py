"""User code in worker processes of its own: what runs there, how it is watched, and what becomes of its failures."""
