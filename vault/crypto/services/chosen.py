"""The key service that the settings name: the one place that knows all four."""

from pathlib import Path

from vault.clock import Clock
from vault.config import Settings
from vault.crypto.keyservice import KeyService
from vault.crypto.services.awskms import AwsKeyService
from vault.crypto.services.guarded import Guarded
from vault.crypto.services.local import LocalKeyService
from vault.crypto.services.pkcs11 import Pkcs11KeyService
from vault.crypto.services.transit import TransitKeyService


def service_of(settings: Settings, clock: Clock | None = None) -> KeyService:
    """The service, which is not asked yet. Raises `ConfigError`."""
    given = settings.service
    if given.kind == "local":
        return LocalKeyService.from_path(settings.key_file)
    if given.kind == "awskms":
        return Guarded(
            AwsKeyService(
                given.kms_region,
                endpoint=given.kms_endpoint,
                prefix=given.prefix,
                days=given.kms_deletion_days,
                clock=clock,
            )
        )
    if given.kind == "transit":
        return Guarded(
            TransitKeyService(
                given.transit_url,
                given.transit_token_file or Path(),
                mount=given.transit_mount,
                prefix=given.prefix,
                ca=given.transit_ca_file,
            )
        )
    module, pin = given.pkcs11_module or Path(), given.pkcs11_pin_file or Path()
    return Guarded(Pkcs11KeyService(module, given.pkcs11_token, pin, prefix=given.prefix))
