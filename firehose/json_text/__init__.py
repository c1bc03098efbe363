"""JSON as text that stays the sender's: read and changed in places, without writing anew what is not touched."""
