"""The one door to AWS services and whatever speaks like them: the only file that imports boto3 or botocore.

They are imported at the first call, because they take a quarter of a second and 25 MiB that a service without AWS need
not spend. Most of that is the descriptions of services: all clients of a process share them, and those with equal
options are one client. A client makes exactly one attempt per call, unless its user's `config` says otherwise: only the
pipeline decides about retries of a delivery (DESIGN 3, law 6). Whatever goes wrong comes out as `Failed`, whose text
must never hold a secret. Credentials follow boto3's own chain unless they are given. Checksums of requests are sent
only where an operation demands them: they halve the speed (DESIGN 4), and many stores refuse them.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from firehose.blocks import Block

T = TypeVar("T")
Url = Annotated[str, Field(pattern=r"^https?://[^/@\s]+(/\S*)?$")]
CONNECT_SECONDS = 10.0
CONNECTIONS = 256  # that a client keeps: as many as there may be workers
TEXT_LIMIT = 300  # characters of a far side's message that a reason may repeat
CREDENTIALS_WAY_OUT = (
    "give access_key_id and secret_access_key, a profile or a role_arn, or set AWS_ACCESS_KEY_ID and"
    " AWS_SECRET_ACCESS_KEY in the service's environment"
)


class AwsOptions(Block):
    """Keys of every block that talks to AWS or to a store that speaks like it."""

    endpoint_url: Url | None = None
    region: str | None = None
    profile: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    role_arn: Annotated[str, Field(pattern=r"^arn:.+:iam::\d{12}:role/\S+$")] | None = None
    role_external_id: str | None = None
    sts_endpoint_url: Url | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 60
    verify_tls: bool = True
    ca_file: str | None = None

    @model_validator(mode="after")
    def _whole_credentials(self) -> AwsOptions:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together: give both or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token belongs to access_key_id and secret_access_key: give those too")
        if self.profile is not None and self.access_key_id is not None:
            raise ValueError("give a profile or an access_key_id, not both")
        return self


class Failed(Exception):
    """A call that did not succeed. `status` is the HTTP answer's, 0 where none came or none could be read.

    `operation` is the one that was refused: AssumeRole where it did not even come to the call.
    """

    def __init__(
        self, code: str, message: str, status: int = 0, after_seconds: float | None = None, operation: str = ""
    ) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.status = status
        self.after_seconds = after_seconds
        self.operation = operation


class Clients:
    """The clients of one process: one for all whose service, options and region are equal. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[Hashable, Any] = {}
        self._users = Counter[Hashable]()
        self._models: Any = None  # botocore's loader: it keeps what it has read of the services' descriptions

    def take(self, service: str, options: AwsOptions, region: str, config: Mapping[str, Any]) -> tuple[Hashable, Any]:
        """A client, made now unless there is one, and the key to give it back with."""
        key = _key(service, options, region, config)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(service, options, region, config)
            self._users[key] += 1
            return key, self._made[key]

    def give_back(self, key: Hashable) -> None:
        """Whoever had it last closes it."""
        with self._lock:
            self._users[key] -= 1
            unused = None
            if not self._users[key]:
                del self._users[key]
                unused = self._made.pop(key)
        if unused is not None:
            unused.close()

    def _make(self, service: str, options: AwsOptions, region: str, config: Mapping[str, Any]) -> Any:
        return self.session(options, region).client(
            service,
            endpoint_url=options.endpoint_url,
            verify=_verify(options),
            config=_settings(options, config),
        )

    def session(self, options: AwsOptions, region: str) -> Any:
        """One of boto3's, with the options' credentials."""
        import boto3

        session = self._session(profile=options.profile)
        if options.access_key_id is not None:
            secret, token = _revealed(options.secret_access_key), _revealed(options.session_token)
            session.set_credentials(options.access_key_id, secret, token)
        if options.role_arn is not None:
            provider = _role(session, options, region)
            session = self._session()
            session.register_component("credential_provider", provider)
        return boto3.Session(botocore_session=session, region_name=region)

    def _session(self, **given: Any) -> Any:
        import botocore.session

        session = botocore.session.Session(**given)
        if self._models is None:
            self._models = session.get_component("data_loader")
        session.register_component("data_loader", self._models)
        return session


class Client:
    """One service's client, taken at its first call, shared by all threads. `config` is botocore's Config."""

    def __init__(self, clients: Clients, service: str, options: AwsOptions, region: str, **config: Any) -> None:
        self._clients = clients
        self._service = service
        self._options = options
        self._region = options.region or region
        self._config = config
        self._taking = threading.Lock()
        self._taken: tuple[Hashable, Any] | None = None

    def call(self, operation: str, /, **arguments: Any) -> dict[str, Any]:
        """Calls the operation (in boto3's spelling) once. Raises `Failed`."""
        answer: dict[str, Any] = _told(lambda: getattr(self._client(), operation)(**arguments))
        return answer

    def pieces(self, operation: str, member: str, size_bytes: int, /, **arguments: Any) -> Iterator[bytes]:
        """The body that the answer holds under `member`, as it comes in. Raises `Failed`, in the middle too."""
        body = self.call(operation, **arguments)[member]
        try:
            yield from iter(lambda: _told(lambda: body.read(size_bytes)), b"")
        finally:
            body.close()

    def events(self, operation: str, member: str, /, **arguments: Any) -> Events:
        """The event stream that the answer holds under `member`. Raises `Failed`."""
        return Events(self.call(operation, **arguments)[member])

    def close(self) -> None:
        with self._taking:
            taken, self._taken = self._taken, None
        if taken is not None:
            self._clients.give_back(taken[0])

    def _client(self) -> Any:
        with self._taking:
            if self._taken is None:
                self._taken = self._clients.take(self._service, self._options, self._region, self._config)
            return self._taken[1]


class Credentials:
    """Those of the options, found when they are first asked for, and renewed in time, in the form that signers of other
    libraries want. Threads share it.
    """

    def __init__(self, clients: Clients, options: AwsOptions, region: str) -> None:
        self._clients = clients
        self._options = options
        self._region = region
        self._found: Any = None

    def get_frozen_credentials(self) -> Any:
        """As they are now. Raises `Failed`."""
        return _told(self._frozen)

    def _frozen(self) -> Any:
        from botocore.exceptions import NoCredentialsError

        if self._found is None:
            self._found = self._clients.session(self._options, self._region).get_credentials()
        if self._found is None:
            raise NoCredentialsError
        return self._found.get_frozen_credentials()


class Events:
    """An event stream as it comes in. One thread reads it, another may close it meanwhile, and waits for nothing: who
    reads closes it then, once the far side has said something or its time is up.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._events = iter(stream)
        self._reading = threading.Lock()
        self._closed = False

    def next(self) -> dict[str, Any] | None:
        """Waits for the next event, a mapping of its type to its members; None at the end. Raises `Failed`."""
        try:
            with self._reading:
                event: dict[str, Any] | None = _told(lambda: next(self._events, None))
            return event
        finally:
            if self._closed:
                self.close()

    def close(self) -> None:
        self._closed = True
        if self._reading.acquire(blocking=False):
            try:
                self._stream.close()
            finally:
                self._reading.release()


class Signer:
    """Signs requests of other protocols as AWS signs its own. Threads share it."""

    def __init__(self, clients: Clients, options: AwsOptions, region: str, service: str) -> None:
        self._credentials = Credentials(clients, options, region)
        self._region = region
        self._service = service

    def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """What a request is to carry beside `headers`, which are signed with it. Raises `Failed`."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        credentials = self._credentials.get_frozen_credentials()
        request = AWSRequest(method, url, headers=dict(headers), data=body)
        _told(lambda: SigV4Auth(credentials, self._service, self._region).add_auth(request))
        return {name: value for name, value in request.headers.items() if name not in headers}


def content(stream: Any, limit_bytes: int) -> bytes:
    """A streamed member of an answer, read to its end: at most one byte more than the limit. Raises `Failed`."""
    try:
        return _told(lambda: _read(stream, limit_bytes + 1))
    finally:
        stream.close()


def _read(stream: Any, size_bytes: int) -> bytes:
    """Only a read that finds nothing more tells an end from a connection that broke."""
    read = bytearray()
    while len(read) < size_bytes and (chunk := stream.read(size_bytes - len(read))):
        read += chunk
    return bytes(read)


def _key(service: str, options: AwsOptions, region: str, config: Mapping[str, Any]) -> Hashable:
    """What makes two clients one. `options` may be of a block that has keys of its own."""
    connection = tuple(getattr(options, key) for key in AwsOptions.model_fields)
    return (service, region, connection, repr(sorted(config.items())))


def _settings(options: AwsOptions, config: Mapping[str, Any]) -> Any:
    from botocore.config import Config

    usual: dict[str, Any] = {
        "connect_timeout": min(CONNECT_SECONDS, options.timeout_seconds),
        "read_timeout": options.timeout_seconds,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "tcp_keepalive": True,
        "max_pool_connections": CONNECTIONS,
    }
    return Config(**{**usual, **config})


def _verify(options: AwsOptions) -> str | bool | None:
    """None leaves the choice to AWS_CA_BUNDLE and botocore's own bundle."""
    return options.ca_file or (None if options.verify_tls else False)


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _role(source: Any, options: AwsOptions, region: str) -> Any:
    """Gives the role's credentials, asked of STS with the source's, renewed before they expire."""
    from botocore.credentials import CredentialProvider, CredentialResolver, DeferredRefreshableCredentials

    asking: dict[str, str] = {"RoleArn": str(options.role_arn), "RoleSessionName": "firehose"}
    if options.role_external_id is not None:
        asking["ExternalId"] = options.role_external_id

    def fetch() -> dict[str, str]:
        sts = source.create_client(
            "sts", region_name=region, endpoint_url=options.sts_endpoint_url, verify=_verify(options)
        )
        given = sts.assume_role(**asking)["Credentials"]
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }

    class Role(CredentialProvider):
        METHOD = CANONICAL_NAME = "assume-role"

        def load(self) -> Any:
            return DeferredRefreshableCredentials(fetch, self.METHOD)

    return CredentialResolver([Role()])


def _told(call: Callable[[], T]) -> T:
    """Does what `call` does, with every failure of AWS's libraries told as `Failed`."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        return call()
    except ClientError as error:
        raise _answered(error.response, error.operation_name) from error
    except (BotoCoreError, ResponseParserError, OSError) as error:
        raise _unanswered(error) from error
    except Exception as error:
        # The libraries stumble in many ways over headers and bodies that no store would send.
        raise Failed("StrangeAnswer", f"cannot be read: {error!r}"[:TEXT_LIMIT]) from error


def _answered(response: Any, operation: str) -> Failed:
    error, about = response.get("Error", {}), response.get("ResponseMetadata", {})
    headers = about.get("HTTPHeaders", {})
    return Failed(
        _text(error.get("Code")) or "Unknown",
        _text(error.get("Message")),
        int(about.get("HTTPStatusCode") or 0),
        _seconds(headers.get("retry-after")),
        operation,
    )


def _text(said: object) -> str:
    """The beginning of what the far side says. JSON can spell half of a surrogate pair, which is no text elsewhere."""
    return str(said or "")[:TEXT_LIMIT].encode("utf-8", "replace").decode()


def _seconds(header: str | None) -> float | None:
    """A Retry-After in seconds. Stores send no dates; one that did would be answered with our own backoff."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _host(url: str) -> str:
    """Without the object's name, which says nothing about a connection."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _beneath(error: BaseException) -> str:
    """What the system said: of a name that is not known, of nobody who listens."""
    cause: BaseException | None = error
    said = ""
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            said = cause.strerror
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "kwargs", {}).get("error")
    return said or str(error)[:TEXT_LIMIT]


def _unanswered(error: Exception) -> Failed:
    from botocore import exceptions as known

    name, message = type(error).__name__.removesuffix("Error"), str(error)[:TEXT_LIMIT]
    if isinstance(error, known.EndpointConnectionError):
        return Failed(name, f"cannot connect to {_host(error.kwargs['endpoint_url'])}: {_beneath(error)}")
    if isinstance(error, known.ConnectTimeoutError | known.ReadTimeoutError):
        return Failed(name, f"no answer of {_host(error.kwargs['endpoint_url'])} in time")
    if isinstance(error, known.NoCredentialsError | known.PartialCredentialsError):
        return Failed(name, f"{message}; {CREDENTIALS_WAY_OUT}")
    if isinstance(error, known.ProfileNotFound):
        return Failed(name, f"{message}; add it to ~/.aws/config or change the key profile")
    if isinstance(error, known.ParamValidationError):
        return Failed(name, message, status=400)
    return Failed(name, message)


def service_model(service: str) -> Any:
    """What botocore knows of a service's operations: their members, types and constraints."""
    import botocore.session

    return botocore.session.get_session().get_service_model(service)
