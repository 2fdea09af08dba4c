"""Ed25519 signatures of a bundle's manifest, which has every file's digest.

A seal shows that a bundle was not changed; a signature shows its author. Keys are PEM files of
``openssl genpkey -algorithm ed25519``, and OpenSSL alone can check a signature::

    base64 -d manifest.json.sig > raw.sig
    openssl pkeyutl -verify -rawin -pubin -inkey public.pem -in manifest.json -sigfile raw.sig
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, cast

from bakit.errors import BundleError, InputError, MissingBackendError
from bakit.files import read_regular, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SUFFIX = ".sig"
MAX_BYTES = 1 << 20
"""Most bytes of a key or of a signature; they have about 100."""


def sign(manifest: Path, private_key: Path) -> Path:
    """Sign a manifest and return the signature's file, in the same folder.

    The private key is a PEM file of Ed25519, not encrypted.

    Raises:
        InputError: If the key cannot be used, or a file cannot be read or written.
        MissingBackendError: If cryptography is not installed.
    """
    key = cast("Ed25519PrivateKey", _load(private_key, "private"))
    path = manifest.with_name(manifest.name + SUFFIX)
    try:
        write_file(path, base64.b64encode(key.sign(read_regular(manifest, 1 << 24))) + b"\n")
    except OSError as error:
        message = f"{path}: the signature cannot be written ({error.strerror or error})"
        raise InputError(message) from error
    return path


def check_signature(manifest: Path, data: bytes, public_key: Path) -> None:
    """Reject a manifest without a valid signature.

    The public key is a PEM file of Ed25519.

    Raises:
        BundleError: If the signature is missing, or belongs to another manifest or key.
        InputError: If the key cannot be used.
        MissingBackendError: If cryptography is not installed.
    """
    key = cast("Ed25519PublicKey", _load(public_key, "public"))
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    root = manifest.parent
    path = manifest.with_name(manifest.name + SUFFIX)
    try:
        text = read_regular(path, MAX_BYTES)
        signature = base64.b64decode(b"".join(text.split()), validate=True)
    except FileNotFoundError as error:
        message = f"{root}: not signed; its author can: bakit sign BUNDLE --key private.pem"
        raise BundleError(message) from error
    except (OSError, binascii.Error) as error:
        message = f"{path}: cannot be read ({error})"
        raise BundleError(message) from error
    try:
        key.verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        message = f"{root}: the signature is not by {public_key}, or not of this manifest"
        raise BundleError(message) from error


def _load(path: Path, kind: str) -> object:
    """Read an Ed25519 key, ``private`` or ``public``."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # an extra
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ModuleNotFoundError as error:
        need = "signing bundles and checking signatures"
        raise MissingBackendError(need, "sign") from error
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        message = f"{path}: the key cannot be read ({error.strerror or error})"
        raise InputError(message) from error
    try:
        if kind == "private":
            key: object = serialization.load_pem_private_key(data, None)
            wanted: type = ed25519.Ed25519PrivateKey
        else:
            key = serialization.load_pem_public_key(data)
            wanted = ed25519.Ed25519PublicKey
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        message = f"{path}: not a {kind} key in PEM without a password"
        raise InputError(message) from error
    if not isinstance(key, wanted):
        message = f"{path}: a {kind} key, but not Ed25519; make one with: {_MAKE[kind]}"
        raise InputError(message)
    return key


_MAKE = {
    "private": "openssl genpkey -algorithm ed25519 -out private.pem",
    "public": "openssl pkey -in private.pem -pubout -out public.pem",
}
