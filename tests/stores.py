"""Where a team keeps its results: a directory, or a bucket on a server in this process that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import botocore.session
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "team"


@dataclass(frozen=True)
class Store:
    """A DVC remote: a directory, or a place in the bucket of a server."""

    url: str
    endpoint: str | None = None

    def add(self, folder: Path) -> None:
        """Make this a checkout's default remote: the file that the commands of docs/team.md write."""
        config = folder / ".dvc/config"
        text = config.read_text().replace("[core]\n", "[core]\n    remote = store\n")
        endpoint = f"    endpointurl = {self.endpoint}\n" if self.endpoint else ""
        config.write_text(f"""{text}['remote "store"']\n    url = {self.url}\n    verify = true\n{endpoint}""")

    def damage(self, md5: str) -> None:
        """Flip a bit of an object as a disk would: length and permissions stay."""
        key = f"files/md5/{md5[:2]}/{md5[2:]}"
        if self.endpoint:
            place = {"Bucket": BUCKET, "Key": f"{self.url.removeprefix(f's3://{BUCKET}/')}/{key}"}
            with client(self.endpoint) as s3:
                s3.put_object(**place, Body=flipped(s3.get_object(**place)["Body"].read()))
        else:
            file = Path(self.url) / key
            mode = file.stat().st_mode
            file.chmod(0o644)
            file.write_bytes(flipped(file.read_bytes()))
            file.chmod(mode)


def flipped(content: bytes) -> bytes:
    """Return the content with one bit changed."""
    return content[:5] + bytes([content[5] ^ 1]) + content[6:]


@contextmanager
def client(endpoint: str) -> Iterator[botocore.client.BaseClient]:
    """Open S3 as a user whose keys are in the environment."""
    s3 = botocore.session.get_session().create_client("s3", "us-east-1", endpoint_url=endpoint)
    try:
        yield s3
    finally:
        s3.close()


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Serve S3 with one bucket on a free port of this machine; children find a user's keys in their environment.

    Nobody is asked for anything else: no file of this machine's user, no metadata service, no proxy, no real AWS.
    """
    nothing = folder / "empty"
    nothing.touch()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with pytest.MonkeyPatch.context() as environment:
            for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
                environment.setenv(name, str(nothing))
            environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
            environment.setenv("NO_PROXY", host)
            environment.setenv("AWS_ACCESS_KEY_ID", "user")
            environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            with client(f"http://{host}:{port}") as s3:
                s3.create_bucket(Bucket=BUCKET)
            yield f"http://{host}:{port}"
    finally:
        server.stop()
