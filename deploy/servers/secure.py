"""One Kafka node with TLS, client certificates, passwords and access control lists, to test rights against a real one.

Certificates are made by `openssl` at the first start, for the broker and for every user; passwords are drawn at random. Both lie in the
node's folder, beside a file of client properties per user and way to log in: `<user>.scram.properties`, `<user>.mtls.properties`.

Neighbours: `kafka` starts and stops it; tests of rights use it.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.servers.kafka import HERE, KafkaCluster, KafkaNode, ServerFailed, free_ports

ADMIN = "admin"
"""A user who may do everything."""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class SecureKafka(KafkaCluster):
    """See the module.

    Args:
        folder: where everything lies; made when absent.
        jars: where the jars are, or are to be fetched to.
        users: who may log in, beside `ADMIN`; none of them has any right at first.
    """

    def __init__(self, folder: Path, *, jars: Path, users: Sequence[str]) -> None:
        super().__init__(folder, jars=jars)
        self._users = (ADMIN, *users)
        self._by_certificate = free_ports(1)[0]
        self.passwords = {user: secrets.token_urlsafe(18) for user in self._users}

    @property
    def address(self) -> str:
        """Return what clients with a password connect to."""
        return f"localhost:{self.nodes[0].port}"

    @property
    def address_by_certificate(self) -> str:
        """Return what clients with a certificate connect to."""
        return f"localhost:{self._by_certificate}"

    def start(self) -> str:
        """Make certificates and users, start the node; return the address for passwords.

        Raises:
            ServerFailed: with the reason and the end of the console.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._certify()
        self.format_options = [f"--add-scram=SCRAM-SHA-512=[name={user},password={word}]" for user, word in self.passwords.items()]
        for user in self._users:
            self._write_properties(user)
        return super().start()

    def _certify(self) -> None:
        """Make an authority, and a certificate of it for the broker and for every user."""
        _openssl("req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/CN=test-ca", folder=self.folder)
        (self.folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        for name in ("broker", *self._users):
            _openssl("req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", folder=self.folder)
            signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "7", "-extfile", "names"]
            _openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signed, folder=self.folder)
            parts = [(self.folder / part).read_text() for part in (f"{name}.key", f"{name}.crt", "ca.crt")]
            (self.folder / f"{name}.pem").write_text("".join(parts))

    def _write_properties(self, user: str) -> None:
        scram = {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"}
        login = {"sasl.username": user, "sasl.password": self.passwords[user], "ssl.ca.location": str(self.folder / "ca.crt")}
        self._write(f"{user}.scram.properties", scram | login)
        keys = {name: str(self.folder / f"{user}.{end}") for name, end in (("certificate", "crt"), ("key", "key"))}
        mtls = {"security.protocol": "SSL", "ssl.ca.location": str(self.folder / "ca.crt")}
        self._write(f"{user}.mtls.properties", mtls | {f"ssl.{name}.location": path for name, path in keys.items()})
        jaas = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{user}" password="{self.passwords[user]}";'
        trust = {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(self.folder / "ca.crt")}
        self._write(f"{user}.java.properties", scram | trust | {"sasl.jaas.config": jaas})

    def _write(self, name: str, values: dict[str, str]) -> None:
        (self.folder / name).write_text("".join(f"{key}={value}\n" for key, value in values.items()))

    def _properties(self, node: KafkaNode, controller: int, voters: str) -> str:
        values = {"node": node.number, "port": node.port, "certificates": self._by_certificate, "controller": controller}
        secure = (HERE / "secure.properties").read_text().format(folder=self.folder.resolve(), **values)
        return super()._properties(node, controller, voters) + secure


def _openssl(*arguments: str, folder: Path) -> None:
    found = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S607  # as installed
    if found.returncode:
        raise ServerFailed(f"openssl {arguments[0]}: {found.stderr[-1000:]}")
