"""Where records can be delivered: one file per destination, and its line in this table."""

from collections.abc import Mapping

TABLE: Mapping[str, str] = {
    "folder": "destinations.folder:Folder",
    "http": "destinations.http:Http",
    "opensearch": "destinations.opensearch:OpenSearch",
    "redshift": "destinations.redshift:Redshift",
    "s3": "destinations.s3:S3",
    "splunk": "destinations.splunk:Splunk",
}
