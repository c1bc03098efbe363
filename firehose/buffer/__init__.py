"""The durable log between the two halves: frames in segments in lanes, and the ledger of what became of them."""
