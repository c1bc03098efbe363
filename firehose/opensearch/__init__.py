"""What `destinations/opensearch.py` sends to OpenSearch and Elasticsearch, and how it reads what they answer. Pure."""
