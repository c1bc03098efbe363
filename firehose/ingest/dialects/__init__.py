"""What producers say on the wire: one file for each dialect."""
