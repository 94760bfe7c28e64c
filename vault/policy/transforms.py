"""Every transform that rules may name: the plain ones, and the counted ones that some contract asks for. Finite on purpose."""

from vault.catalogue.contracts import PLAIN_TRANSFORMS
from vault.catalogue.load import Catalogue


def vocabulary(catalogue: Catalogue) -> frozenset[str]:
    """Full names: `sha256:google`, `prefix:3` if a contract has it, and so on."""
    asked: set[str] = set()
    for contract in catalogue.contracts.values():
        for transforms in contract.traits.values():
            asked.update(transforms)
        for terms in contract.identifiers.values():
            asked.update(terms.transforms)
    return PLAIN_TRANSFORMS | asked
