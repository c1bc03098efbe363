"""Objects in S3, or in any store that speaks its protocol.

Names, bytes and headers are AWS's (firehose.md sections 5 and 6). An object gets its name once: small ones
by one conditional PutObject, large ones by a multipart upload that is completed conditionally, and a name
that is taken already holds this very object (DESIGN 3.1, trap 6). Objects of the error output are
overwritten instead, because a repeat may bring other rows. It must never hold more than about one part in
memory, tell a secret, take an answer for a success that does not say what S3's successes say, or leave an
upload behind: each is noted before it is begun and once it has its id, so that whoever comes next aborts it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlencode

from pydantic import Field, model_validator

from firehose import aws
from firehose.blocks import MIB
from firehose.compression import Piece
from firehose.contracts import Memo, Refused, Retry
from firehose.model import Batch, Receipt
from firehose.objects import ObjectEncoder, ObjectOptions
from firehose.registry import Site
from firehose.stream_config import DestinationBlock

Acl = Literal[
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
]
PartMib = Annotated[float, Field(ge=5, le=1024)]  # S3 takes no smaller part, the last one aside
REMEMBERED = 64  # uploads of one object that the store does not let us abort; older ones are its lifecycle rule's
OWN_HEADERS = {"storage_class": "StorageClass", "acl": "ACL", "kms_key_id": "SSEKMSKeyId"}

# Answers that no repetition changes, and codes among them that are mended from outside, or by a new upload, after all.
HOPELESS_STATUS = frozenset({400, 413, 414, 501})
PASSING_CODES = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "BadDigest",
        "ExpiredToken",
        "IncompleteBody",
        "InvalidPart",
        "InvalidToken",
        "RequestTimeout",
        "TokenRefreshRequired",
        "XAmzContentSHA256Mismatch",
    }
)
# Answers to a question for our uploads that end the matter: not ours to ask, or the store knows no such question.
UNTOLD = frozenset({"AccessDenied", "NotImplemented", "MethodNotAllowed"})
RIGHTS = "grant s3:PutObject and s3:AbortMultipartUpload on {objects}"
CHECK_KEYS = "check access_key_id, secret_access_key and session_token"
CHECK_REGION = "check the key region"
WAYS_OUT: Mapping[str, str] = {
    "NoSuchBucket": "create it with: {create}",
    "AccessDenied": RIGHTS,
    "403": RIGHTS,
    "InvalidAccessKeyId": CHECK_KEYS,
    "SignatureDoesNotMatch": CHECK_KEYS,
    "ExpiredToken": CHECK_KEYS,
    "InvalidToken": CHECK_KEYS,
    "AuthorizationHeaderMalformed": CHECK_REGION,
    "PermanentRedirect": CHECK_REGION,
    "EndpointConnection": "check that the store runs, and the key endpoint_url",
    "ConnectTimeout": "check that the store runs, and the key endpoint_url",
    "ReadTimeout": "check that the store is well, and the keys endpoint_url and timeout_seconds",
    "StrangeAnswer": "check that endpoint_url is a store that speaks S3",
    "SSL": "check ca_file, or whether endpoint_url should begin with http://",
}


class S3Options(ObjectOptions, aws.AwsOptions):
    """`type: s3`."""

    CONNECTION: ClassVar[tuple[str, ...]] = (*aws.AwsOptions.model_fields, "addressing_style")

    type: Literal["s3"] = "s3"
    bucket: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,255}$")]
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    content_type: str = "application/octet-stream"
    content_encoding: bool = True
    storage_class: Annotated[str, Field(pattern=r"^[A-Z_]+$")] | None = None
    server_side_encryption: Literal["none", "AES256", "aws:kms"] = "none"
    kms_key_id: str | None = None
    acl: Acl | None = None  # AWS sends bucket-owner-full-control; buckets without ACLs and many stores refuse others
    tags: Annotated[dict[str, str], Field(max_length=10)] = {}
    if_none_match: Literal["auto", "on", "off"] = "auto"
    multipart_threshold_mib: PartMib = 8
    part_size_mib: PartMib = 8  # each delivery under way holds one part in memory

    @model_validator(mode="after")
    def _key_for_kms(self) -> S3Options:
        if self.kms_key_id is not None and self.server_side_encryption != "aws:kms":
            raise ValueError("kms_key_id is for server_side_encryption: aws:kms only")
        return self

    def container(self) -> tuple[str, ...]:
        return (self.type, (self.endpoint_url or "").rstrip("/"), self.bucket)


class S3:
    """Delivers to a bucket."""

    Options: ClassVar[type[DestinationBlock]] = S3Options
    error_type: ClassVar[str] = "delivery-failed"  # AWS has no name for it: it loses such rows

    def __init__(self, options: S3Options, site: Site) -> None:
        self._options = options
        self._threads = site.threads
        self._encoder = ObjectEncoder(options, site)
        self._headers = _headers(options, self._encoder.content_encoding)
        style = {"addressing_style": options.addressing_style}
        self._client = aws.Client(site.shared.of(aws.Clients), "s3", options, site.region, s3=style)
        # Whether objects are sent under the condition that their name is free. Falls to False for good once
        # the store has shown that it knows no such condition; two threads that find out at once do no harm.
        self._conditional = site.purpose == "data" and options.if_none_match != "off"

    async def check(self) -> None:
        await self._threads.run(self._check)

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        return await self._threads.run(lambda: self._deliver(batch, memo))

    async def put(self, name: str, content: bytes) -> None:
        """A small object that speaks of others, such as a manifest; it replaces what has this name."""
        await self._threads.run(lambda: self._put(name, content))

    async def remove(self, *names: str) -> None:
        """Objects that batches or `put` have made; what is not there is no failure."""
        await self._threads.run(lambda: self._remove(names))

    async def close(self) -> None:
        await self._threads.run(self._client.close)
        await self._threads.run(self._encoder.close)

    def _check(self) -> None:
        """Begins an upload and aborts it: proves the rights that a delivery needs, leaves nothing to see."""
        self._encoder.check()
        name = self._encoder.sample_name()
        with self._judged():
            self._call("abort_multipart_upload", Key=name, UploadId=self._begin(name))

    def _deliver(self, batch: Batch, memo: Memo) -> Receipt:
        name = self._encoder.name(batch)
        uploads = Uploads(memo, name)
        with self._judged():
            self._tidy(name, uploads)
            receipt = self._encoder.deliver(
                batch, memo, lambda chunks: self._send(name, chunks, uploads), self._send_beside
            )
            self._tidy(name, uploads)  # of what the store would not let go of before
        return receipt

    def _put(self, name: str, content: bytes) -> None:
        with self._judged():
            self._send_beside(name, content)

    def _remove(self, names: Iterable[str]) -> None:
        with self._judged():
            for name in names:
                self._call("delete_object", Key=name)

    def _send_beside(self, name: str, content: bytes) -> None:
        self._told("ETag", "put_object", Key=name, Body=content, **_headers(self._options, None))

    def _send(self, name: str, chunks: Iterator[Piece], uploads: Uploads) -> int:
        options = self._options
        cut = pieces(chunks, int(options.multipart_threshold_mib * MIB), int(options.part_size_mib * MIB))
        piece, last = next(cut)
        if last:
            self._once("put_object", Key=name, Body=piece, **self._headers)
            return len(piece)
        uploads.beginning()
        upload = self._begin(name)
        parts: list[dict[str, Any]] = []
        size = 0
        try:
            uploads.begun(upload)
            while True:
                parts.append(self._part(name, upload, len(parts) + 1, piece))
                size += len(piece)
                del piece  # before the next one grows: one part is all the memory there should be
                if last:
                    break
                piece, last = next(cut)
            self._complete(name, upload, parts, uploads)
        except BaseException:
            self._try_abort(name, upload, uploads)
            raise
        return size

    def _begin(self, name: str) -> str:
        return self._told("UploadId", "create_multipart_upload", Key=name, **self._headers)

    def _part(self, name: str, upload: str, number: int, piece: bytearray) -> dict[str, Any]:
        tag = self._told("ETag", "upload_part", Key=name, UploadId=upload, PartNumber=number, Body=piece)
        return {"PartNumber": number, "ETag": tag}

    def _complete(self, name: str, upload: str, parts: list[dict[str, Any]], uploads: Uploads) -> None:
        whole = {"Parts": parts}
        if self._once("complete_multipart_upload", Key=name, UploadId=upload, MultipartUpload=whole):
            uploads.completed(upload)
        else:
            self._abort(name, upload, uploads)

    def _once(self, operation: str, **arguments: Any) -> bool:
        """The call that gives the object its name. False where the name is taken: by this very object."""
        if not self._conditional:
            self._told("ETag", operation, **arguments)
            return True
        try:
            self._told("ETag", operation, IfNoneMatch="*", **arguments)
        except aws.Failed as failed:
            if failed.status == 412:
                return False
            if self._options.if_none_match == "on" or not hopeless(failed):
                raise
            # Perhaps the store refuses the condition, perhaps all the rest. Only success without it tells.
            self._told("ETag", operation, **arguments)
            self._conditional = False
        return True

    def _tidy(self, name: str, uploads: Uploads) -> None:
        """Aborts what earlier attempts have begun, also where the answer that named it was lost."""
        if uploads.in_doubt:
            for upload in self._listed(name):
                self._abort(name, upload, uploads)
        for upload in uploads.left():
            self._abort(name, upload, uploads)

    def _listed(self, name: str) -> list[str]:
        """Uploads of this object that the store knows of. None where it does not tell: no data waits for that."""
        try:
            found = self._call("list_multipart_uploads", Prefix=name).get("Uploads", ())
        except aws.Failed as failed:
            if failed.code not in UNTOLD:
                raise
            return []
        return [one["UploadId"] for one in found if one["Key"] == name]

    def _abort(self, name: str, upload: str, uploads: Uploads) -> None:
        """Where the store forbids it, the upload stays, and is tried again while there is an occasion: no data
        waits for that."""
        try:
            self._call("abort_multipart_upload", Key=name, UploadId=upload)
        except aws.Failed as failed:
            if failed.code == "AccessDenied":
                return
            if failed.code != "NoSuchUpload":
                raise
        uploads.aborted(upload)

    def _try_abort(self, name: str, upload: str, uploads: Uploads) -> None:
        try:
            self._abort(name, upload, uploads)
        except aws.Failed:
            pass  # its id is in the memo: the next attempt, in this process or another, aborts it

    def _told(self, wanted: str, operation: str, **arguments: Any) -> str:
        """What every success of this operation tells: an answer without it came from something in between."""
        answer = self._call(operation, **arguments)
        if wanted not in answer:
            raise aws.Failed("StrangeAnswer", f"a success of {operation} that tells no {wanted}")
        return str(answer[wanted])

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self._client.call(operation, Bucket=self._options.bucket, **arguments)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        try:
            yield
        except aws.Failed as failed:
            raise self._verdict(failed) from failed

    def _verdict(self, failed: aws.Failed) -> Retry | Refused:
        bucket, endpoint = self._options.bucket, self._options.endpoint_url
        create = f"aws s3 mb s3://{bucket}" + (f" --endpoint-url {endpoint}" if endpoint else "")
        way_out = WAYS_OUT.get(failed.code, "").format(create=create, objects=f"arn:aws:s3:::{bucket}/*")
        reason = f"s3://{bucket}: {failed}" + (f"; {way_out}" if way_out else "")
        return Refused(reason) if hopeless(failed) else Retry(reason, failed.after_seconds, code=_code(failed))


def _code(failed: aws.Failed) -> str | None:
    """AWS's, where the store named one: a proxy tells a status alone, and of the way to the store AWS has no names."""
    return f"S3.{failed.code}" if failed.status and failed.code[:1].isalpha() else None


class Uploads:
    """The multipart uploads of one object that its segment's memo knows of.

    Of each there is a note before it is begun; one with its id takes that one's place, and goes once it is aborted. So
    the notes stay few, however often a delivery fails.
    """

    def __init__(self, memo: Memo, name: str) -> None:
        self._memo = memo
        self._name = name
        notes = [json.loads(note) for note in memo.read()]
        self._left = [note["upload"] for note in notes if note.get("name") == name]
        # One was begun, perhaps, and nobody was told its id.
        self.in_doubt = any(note.get("beginning") == name for note in notes)

    def left(self) -> list[str]:
        """Begun, and not known to have ended."""
        return list(self._left)

    def beginning(self) -> None:
        if not self.in_doubt:
            self._memo.write(self._beginning)

    def begun(self, upload: str) -> None:
        self._left.append(upload)
        self._memo.write(self._begun(upload))
        if not self.in_doubt:
            self._memo.forget(self._beginning)
        if len(self._left) > REMEMBERED:
            self.aborted(self._left[0])

    def completed(self, upload: str) -> None:
        """Needs no note: what follows is the segment's commit."""
        self._left.remove(upload)

    def aborted(self, upload: str) -> None:
        if upload in self._left:
            self._left.remove(upload)
            self._memo.forget(self._begun(upload))

    @property
    def _beginning(self) -> str:
        return json.dumps({"beginning": self._name})

    def _begun(self, upload: str) -> str:
        return json.dumps({"upload": upload, "name": self._name})


def pieces(chunks: Iterable[Piece], first_bytes: int, then_bytes: int) -> Iterator[tuple[bytearray, bool]]:
    """The chunks cut anew, and with each piece whether it is the last. Always at least one, perhaps empty."""
    piece, limit = bytearray(), first_bytes
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        while view:
            if len(piece) == limit:
                yield piece, False
                piece, limit = bytearray(), then_bytes
            room = limit - len(piece)
            piece += view[:room]
            view = view[room:]
    yield piece, True


def hopeless(failed: aws.Failed) -> bool:
    """Whether repeating the same request is no use."""
    passing = failed.code in PASSING_CODES or failed.code.startswith("KMS.")
    from_between = failed.status == 400 and failed.code in ("400", "Unknown")  # it names no S3 error
    return failed.status in HOPELESS_STATUS and not passing and not from_between


def _headers(options: S3Options, content_encoding: str | None) -> dict[str, Any]:
    """What every object is stored with: firehose.md section 5.3."""
    headers: dict[str, Any] = {"ContentType": options.content_type}
    if options.content_encoding and content_encoding is not None:
        headers["ContentEncoding"] = content_encoding
    if options.server_side_encryption != "none":
        headers["ServerSideEncryption"] = options.server_side_encryption
    if options.tags:
        headers["Tagging"] = urlencode(options.tags)
    given = {header: getattr(options, key) for key, header in OWN_HEADERS.items()}
    return headers | {header: value for header, value in given.items() if value is not None}
