"""Where a cluster is, and who logs in: a user with a password, or temporary credentials that AWS gives out.

The latter are asked for anew for each connection: they live for a quarter of an hour, a connection for one COPY.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, SecretStr, model_validator

from firehose import aws
from firehose.blocks import Block
from firehose.redshift.connection import Login, TlsMode

PORT = 5439
LIFE_SECONDS = 900
NO_PASSWORD = "Redshift Database Password is required for Redshift Destination"  # as AWS says it
JDBC = re.compile(r"jdbc:(?:redshift|postgresql)://(?P<host>[^:/\s?]+)(?::(?P<port>\d{1,5}))?/(?P<database>[^/\s?]+)")
Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
Seconds = Annotated[float, Field(gt=0, le=86400)]


class IamOptions(aws.AwsOptions):
    """The block `iam`: a cluster, or a serverless workgroup, and how AWS is asked for a login."""

    cluster_identifier: Name | None = None
    workgroup: Name | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> IamOptions:
        if (self.cluster_identifier is None) == (self.workgroup is None):
            raise ValueError("give cluster_identifier (a provisioned cluster) or workgroup (serverless)")
        return self


class ClusterOptions(Block):
    """Keys that say where the cluster is and who logs in."""

    cluster_jdbcurl: Annotated[str, Field(max_length=512, pattern=f"^{JDBC.pattern}$")] | None = None
    host: Annotated[str, Field(pattern=r"^[^\s/:@]+$")] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    database: Annotated[str, Field(min_length=1, max_length=127)] | None = None
    user: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    password: SecretStr | None = None
    iam: IamOptions | None = None
    sslmode: TlsMode = "verify-full"
    timeout_seconds: Seconds = 60

    @model_validator(mode="after")
    def _one_place(self) -> ClusterOptions:
        if self.cluster_jdbcurl is not None and (self.host or self.port or self.database):
            raise ValueError("cluster_jdbcurl says host, port and database: give it or them, not both")
        if self.cluster_jdbcurl is None and self.database is None:
            raise ValueError("database is missing; give host and database, or cluster_jdbcurl")
        if self.cluster_jdbcurl is None and self.host is None and self.iam is None:
            raise ValueError("host is missing; give it, or iam with a cluster or workgroup that AWS is asked about")
        return self

    @model_validator(mode="after")
    def _one_login(self) -> ClusterOptions:
        if self.iam is not None and self.password is not None:
            raise ValueError("give a password or iam, not both")
        if self.iam is None and self.password is None:
            raise ValueError(f"password is missing ({NO_PASSWORD}); give it, or iam")
        if self.iam is None and self.user is None:
            raise ValueError("user is missing; give it, or iam")
        if self.iam is not None and self.iam.workgroup is not None and self.user is not None:
            raise ValueError("a serverless workgroup logs in whom AWS knows the credentials of; leave user out")
        return self

    def address(self) -> tuple[str | None, int | None, str]:
        """Host and port, as far as they are given, and the database."""
        found = JDBC.fullmatch(self.cluster_jdbcurl or "")
        if found is None:
            assert self.database is not None
            return self.host, self.port, self.database
        return found["host"], int(found["port"] or PORT), found["database"]

    @property
    def shown(self) -> str:
        """The cluster, for people."""
        host, port, database = self.address()
        known = self.iam and (self.iam.workgroup or self.iam.cluster_identifier)
        return f"{host or known}:{port or PORT}/{database}"

    @property
    def jdbc_url(self) -> str:
        """As AWS's API has it."""
        return self.cluster_jdbcurl or f"jdbc:redshift://{self.shown}"


class Cluster:
    """Knows how to log in. Threads share it."""

    def __init__(self, options: ClusterOptions, clients: aws.Clients, region: str) -> None:
        self._options = options
        self._iam = options.iam
        if options.iam is not None:
            service = "redshift" if options.iam.workgroup is None else "redshift-serverless"
            self._client = aws.Client(clients, service, options.iam, region)

    def login(self) -> Login:
        """Raises `aws.Failed` where AWS gives none."""
        host, port, database = self._options.address()
        if self._iam is None:
            secret, user = self._options.password, self._options.user
            assert host is not None
            assert user is not None
            assert secret is not None
            return Login(host, port or PORT, database, user, secret.get_secret_value(), self._options.sslmode)
        try:
            name, password = self._credentials(self._iam, database)
            if host is None:
                host, found = self._endpoint(self._iam)
                port = port or found
        except LookupError as error:
            raise aws.Failed("StrangeAnswer", f"a success that tells no {error}") from error
        return Login(host, port or PORT, database, name, password, self._options.sslmode)

    def close(self) -> None:
        if self._iam is not None:
            self._client.close()

    def _credentials(self, iam: IamOptions, database: str) -> tuple[str, str]:
        if iam.workgroup is not None:
            asking = {"workgroupName": iam.workgroup, "dbName": database, "durationSeconds": LIFE_SECONDS}
            given = self._client.call("get_credentials", **asking)
            return given["dbUser"], given["dbPassword"]
        of: dict[str, Any] = {"ClusterIdentifier": iam.cluster_identifier, "DbName": database}
        of["DurationSeconds"] = LIFE_SECONDS
        if self._options.user is None:
            given = self._client.call("get_cluster_credentials_with_iam", **of)
        else:
            given = self._client.call("get_cluster_credentials", DbUser=self._options.user, AutoCreate=False, **of)
        return given["DbUser"], given["DbPassword"]

    def _endpoint(self, iam: IamOptions) -> tuple[str, int]:
        if iam.workgroup is not None:
            told = self._client.call("get_workgroup", workgroupName=iam.workgroup)["workgroup"]["endpoint"]
            return told["address"], told["port"]
        told = self._client.call("describe_clusters", ClusterIdentifier=iam.cluster_identifier)["Clusters"][0]
        return told["Endpoint"]["Address"], told["Endpoint"]["Port"]
