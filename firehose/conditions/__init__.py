"""The `where` of a destination: jq or SQL conditions, and what they say of its rows."""
