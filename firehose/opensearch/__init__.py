"""What the OpenSearch destination is made of: documents and their indices, the way to a cluster, what it answers."""
