"""nginx as the TLS proxy of docs/http.md, word for word: one instance delivers through it into another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme
from oracle import access_log, assert_each_once
from programs import PATIENCE_SECONDS, Programs, free_port
from stores import Store
from whole_service import StartService, WholeService

pytestmark = pytest.mark.live
PAPER = Path(__file__).parents[2] / "docs/http.md"
KEY = "letme-in"
CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {server}
}}
"""


def snippet(folder: Path, port: int, upstream: int) -> str:
    """What the paper tells people to write, with places of this test's own."""
    found = re.search(r"```nginx\n(.*?)```", PAPER.read_text(), re.DOTALL)
    assert found, "the paper shows how nginx is set up"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "chain.pem"))
    server = found[1].replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace(":4573", f":{upstream}")
    return re.sub(r"/etc/letsencrypt/\S+\.pem", str(folder / "chain.pem"), server)


@pytest.fixture
def receiver(start_service: StartService, s3_server: Store, bucket: str) -> WholeService:
    return start_service({"app": {"destination": s3_server.destination(bucket)}}, api_keys=[KEY])


def test_through_a_tls_proxy(
    receiver: WholeService,
    start_service: StartService,
    programs: Programs,
    nginx: str,
    tmp_path: Path,
    s3_server: Store,
    bucket: str,
) -> None:
    """Large requests and gzip pass it, a kill of it in the middle costs nothing, and every record arrives once."""
    port = free_port()
    file = tmp_path / "nginx.conf"
    file.write_text(CONFIG.format(folder=tmp_path, server=snippet(tmp_path, port, receiver.port)))
    proxy = programs.new("nginx", [nginx, "-p", tmp_path, "-c", file])
    proxy.start()
    hub = {
        "type": "http",
        "url": f"https://127.0.0.1:{port}/firehose/app",
        "access_key": KEY,
        "ca_file": str(tmp_path / "ca.pem"),
    }
    quick = {"size_mib": 4, "interval_seconds": 0.2}
    sender = start_service(
        {
            "app": {"buffering": quick, "destination": hub},
            "zipped": {"buffering": quick, "destination": {**hub, "content_encoding": "gzip"}},
        }
    )
    lines = access_log(40_000)
    for at, stream in ((0, "app"), (10_000, "zipped"), (20_000, "app"), (30_000, "zipped")):
        body = "".join(f"{line}\n" for line in lines[at : at + 10_000]).encode()
        assert sender.post(f"/ingest/{stream}", body).status_code == 200
        if at == 10_000:
            proxy.kill()
        if at == 20_000:
            proxy.start()
    for stream in ("app", "zipped"):
        sender.deliver_all(stream)
    answer = receiver.post(f"/v1/streams/app/flush?wait_seconds={PATIENCE_SECONDS}", b"", Authorization=f"Bearer {KEY}")
    assert answer.json()["delivered"] is True
    assert_each_once(lines, s3_server.lines(bucket))
