"""The front door: connections, the protocols on them, and who may come in."""
