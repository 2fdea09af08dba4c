"""Who made a bundle: signed, checked, and by OpenSSL alone."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from bakit.bundle import Bundle, seal
from bakit.cli import main
from bakit.errors import BundleError, MissingBackendError
from bakit.runtime import Runtime

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa


def write_keys(folder, name, private):
    """Write a key pair as OpenSSL does and return both files."""
    files = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    plain = form.NoEncryption()
    files[0].write_bytes(private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, plain))
    public = private.public_key()
    files[1].write_bytes(
        public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return files


@pytest.fixture
def keys(tmp_path):
    seed = bytes(range(32))
    return write_keys(tmp_path, "maker", ed25519.Ed25519PrivateKey.from_private_bytes(seed))


@pytest.fixture
def signed(fake_bundle, keys):
    result = CliRunner().invoke(main, ["sign", str(fake_bundle), "--key", str(keys[0])])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(fake_bundle / "manifest.json.sig")
    return fake_bundle


def test_a_signed_bundle_is_verified_by_the_maker_s_key(signed, keys):
    assert Bundle.read(signed, keys[1]) == Bundle.read(signed)
    result = CliRunner().invoke(main, ["verify", str(signed), "--public-key", str(keys[1])])
    assert result.exit_code == 0, result.output


def test_another_key_a_changed_manifest_and_no_signature_are_refused(signed, keys, tmp_path):
    _, other = write_keys(tmp_path, "other", ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(BundleError, match="the signature is not by"):
        Bundle.read(signed, other)
    path = signed / "manifest.json"
    before = path.read_text()
    path.write_text(before.replace('"none', '"nome', 1) + "\n")
    seal(signed)  # whoever changes a manifest can seal it again, but not sign it
    Bundle.read(signed)
    with pytest.raises(BundleError, match="or not of this manifest"):
        Bundle.read(signed, keys[1])
    path.write_text(before)
    seal(signed)
    Bundle.read(signed, keys[1])
    (signed / "manifest.json.sig").write_bytes(b"\xff not base64")
    with pytest.raises(BundleError):
        Bundle.read(signed, keys[1])
    (signed / "manifest.json.sig").unlink()
    with pytest.raises(BundleError, match="not signed; its author can: bakit sign"):
        Bundle.read(signed, keys[1])


def commands(bundle, labelled):
    """Every command that can demand a key."""
    image = labelled.samples[0].path
    return {
        "verify": ["verify", bundle],
        "predict": ["predict", image, "--sex", "F", "--bundle", bundle],
        "bench": ["bench", bundle, "--queries", 1, "--seconds", 0],
        "bench of a reference": ["bench", bundle, "--reference", bundle, "--data", labelled.folder],
    }


@pytest.mark.parametrize("fault", ["missing", "another key", "cut", "no base64", "too long"])
def test_a_demanded_signature_that_is_missing_or_wrong_is_refused_everywhere(
    signed, keys, tmp_path, refused, labelled, fault
):
    key, path = keys[1], signed / "manifest.json.sig"
    reason = "the signature is not by"
    if fault == "missing":
        path.unlink()
        reason = "not signed; its author can: bakit sign"
    elif fault == "another key":
        key = write_keys(tmp_path, "other", ed25519.Ed25519PrivateKey.generate())[1]
    elif fault == "cut":
        path.write_bytes(base64.b64encode(base64.b64decode(path.read_bytes())[:-1]))
    elif fault == "no base64":
        path.write_bytes(b"!" + path.read_bytes())
        reason = "manifest.json.sig: cannot be read"
    else:
        path.write_bytes(base64.b64encode(base64.b64decode(path.read_bytes()) + b"more"))
    for words in commands(signed, labelled).values():
        assert reason in refused(*words, "--public-key", key)
    for bundle in (signed, str(signed), Bundle.read(signed)):
        with pytest.raises(BundleError, match=reason):
            Runtime(bundle, public_key=key)
        Runtime(bundle).close()


def test_a_demanded_signature_that_is_good_changes_nothing(signed, keys, labelled):
    image = labelled.samples[0].path
    for bundle in (signed, Bundle.read(signed)):
        with Runtime(bundle, public_key=str(keys[1])) as runtime, Runtime(bundle) as plain:
            assert runtime.predict(image, "F").age_months == plain.predict(image, "F").age_months
    words = [*commands(signed, labelled)["predict"], "--public-key", keys[1]]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output


def test_openssl_s_broken_lines_are_read(signed, keys):
    path = signed / "manifest.json.sig"
    text = path.read_bytes().strip()
    path.write_bytes(text[:64] + b"\n" + text[64:] + b"\n")
    Bundle.read(signed, keys[1])


def test_keys_that_are_none(refused, fake_bundle, keys, tmp_path):
    (tmp_path / "no.pem").write_text("no key")
    weak = write_keys(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))
    words = ("sign", fake_bundle, "--key")
    assert "no.pem: not a private key in PEM" in refused(*words, tmp_path / "no.pem")
    assert "missing.pem: the key cannot be read" in refused(*words, tmp_path / "missing.pem")
    assert "openssl genpkey -algorithm ed25519" in refused(*words, weak[0])
    assert "not a private key" in refused(*words, keys[1])
    words = ("verify", fake_bundle, "--public-key")
    assert "openssl pkey -in private.pem -pubout" in refused(*words, weak[1])
    assert "not a public key" in refused(*words, keys[0])


def test_without_the_library_the_extra_is_named(fake_bundle, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(MissingBackendError, match=r"bakit-edge\[sign\]"):
        Bundle.read(fake_bundle, keys[1])


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
def test_openssl_alone_can_check(signed, keys, tmp_path):
    raw = tmp_path / "raw.sig"
    raw.write_bytes(base64.b64decode((signed / "manifest.json.sig").read_bytes()))
    words = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(keys[1])]
    words += ["-in", str(signed / "manifest.json"), "-sigfile", str(raw)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "unknown option" in done.stderr.lower():
        pytest.skip("an openssl before 3.0")
    assert done.returncode == 0, done.stderr
    assert "Verified Successfully" in done.stdout
