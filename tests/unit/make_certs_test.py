"""Goal: scripts/make_certs makes what its help promises. Method: `openssl` judges. Usage: make_certs_test.py SCRIPT"""
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = None
ROLES = ("meta", "local", "client", "admin")


def run(*words):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=60, check=False)


def make(*args):
    return run(SCRIPT, *args)


class MakeCerts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.dir = Path(cls.temp.name) / "certs"
        done = make("--tenant", "red", "--node", "node-7", "--host", "pool.example", "--host", "fd00::1", cls.dir)
        assert done.returncode == 0, done.stderr

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def verify(self, name, *options):
        return run("openssl", "verify", "-x509_strict", "-crl_check", "-CAfile", self.dir / "ca.cert.pem", "-CRLfile",
                   self.dir / "ca.crl.pem", *options, self.dir / f"{name}.cert.pem")

    def text(self, name):
        return run("openssl", "x509", "-in", self.dir / f"{name}.cert.pem", "-noout", "-text").stdout

    def test_every_role_verifies_for_each_purpose_and_name(self):
        for role in ROLES:
            for options in (["-purpose", "sslserver"], ["-purpose", "sslclient"], ["-verify_hostname", "localhost"],
                            ["-verify_hostname", "pool.example"], ["-verify_ip", "127.0.0.1"], ["-verify_ip", "::1"],
                            ["-verify_ip", "fd00::1"]):
                done = self.verify(role, *options)
                self.assertEqual(done.returncode, 0, (role, options, done.stderr))
            self.assertNotEqual(self.verify(role, "-verify_hostname", "elsewhere.example").returncode, 0)

    def test_a_certificate_says_its_role_node_and_tenant(self):
        for role in ROLES:
            self.assertEqual(self.text(role).count("URI:mmc:role:"), 1)
            self.assertRegex(self.text(role), rf"URI:mmc:role:{role}\b")
            self.assertEqual("URI:mmc:node:node-7" in self.text(role), role == "local")
            self.assertEqual("URI:mmc:tenant:red" in self.text(role), role == "client")

    def test_keys_fit_and_are_private(self):
        for name in (*ROLES, "revoked"):
            public = run("openssl", "x509", "-in", self.dir / f"{name}.cert.pem", "-noout", "-pubkey").stdout
            self.assertEqual(public, run("openssl", "pkey", "-in", self.dir / f"{name}.key.pem", "-pubout").stdout)
        for path in self.dir.rglob("*key*"):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)

    def test_encrypted_keys_open_with_the_passphrase_only(self):
        for role in ROLES:
            path = self.dir / f"{role}.encrypted.key.pem"
            self.assertIn("BEGIN ENCRYPTED PRIVATE KEY", path.read_text(encoding="ascii"))
            self.assertNotEqual(run("openssl", "pkey", "-in", path, "-passin", "pass:wrong", "-noout").returncode, 0)
            opened = run("openssl", "pkey", "-in", path, "-passin", f"file:{self.dir / 'key.pass'}")
            self.assertEqual(opened.stdout, run("openssl", "pkey", "-in", self.dir / f"{role}.key.pem").stdout)

    def test_the_revoked_pair_is_revoked(self):
        done = self.verify("revoked")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("certificate revoked", done.stderr)

    def test_another_authority_is_another(self):
        with tempfile.TemporaryDirectory() as other:
            self.assertEqual(make(other).returncode, 0)
            done = run("openssl", "verify", "-CAfile", Path(other) / "ca.cert.pem", self.dir / "client.cert.pem")
            self.assertNotEqual(done.returncode, 0)

    def test_again_changes_nothing_and_a_strange_folder_is_refused(self):
        before = {p: p.read_bytes() for p in self.dir.glob("*.pem")}
        again = make(self.dir)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("nothing changed", again.stderr)
        self.assertEqual(before, {p: p.read_bytes() for p in self.dir.glob("*.pem")})
        with tempfile.TemporaryDirectory() as strange:
            (Path(strange) / "notes").write_text("x", encoding="ascii")
            done = make(strange)
            self.assertEqual(done.returncode, 1)
            self.assertIn("not empty", done.stderr)
            self.assertEqual([p.name for p in Path(strange).iterdir()], ["notes"])

    def test_issue_and_revoke(self):
        done = make("--issue", "old", "--role", "client", "--from", "2020-01-01", "--until", "2020-02-01", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("certificate has expired", self.verify("old").stderr)
        self.assertEqual(make("--issue", "early", "--role", "local", "--node", "n9", "--from", "2099-01-01", "--until",
                              "2099-02-01", self.dir).returncode, 0)
        self.assertIn("not yet valid", self.verify("early").stderr)
        self.assertIn("URI:mmc:node:n9", self.text("early"))
        self.assertEqual(make("--issue", "bare", "--role", "none", self.dir).returncode, 0)
        self.assertEqual(self.verify("bare").returncode, 0)
        self.assertNotIn("mmc:role", self.text("bare"))
        self.assertEqual(make("--revoke", "bare", self.dir).returncode, 0)
        self.assertIn("certificate revoked", self.verify("bare").stderr)
        self.assertIn("certificate revoked", self.verify("revoked").stderr)
        self.assertIn("already", make("--issue", "old", "--role", "client", self.dir).stderr)
        self.assertEqual(list(self.dir.glob(".work*")), [])

    def test_help_and_wrong_words(self):
        self.assertIn("--issue", make("--help").stdout)
        for words in ([], ["--what", "x"], ["a", "b"], ["--days", "0", "d"], ["--issue", "x", "d"], ["--days"],
                      ["--issue", "../x", "--role", "client", "d"], ["--node", "a\nb", "d"], ["--role", "client", "d"]):
            done = make(*words)
            self.assertEqual(done.returncode, 2, (words, done.stderr))
            self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    SCRIPT = sys.argv.pop(1)
    unittest.main()
