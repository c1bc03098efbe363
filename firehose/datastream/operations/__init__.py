"""The operations of the data streams' API, each module some that belong together."""
