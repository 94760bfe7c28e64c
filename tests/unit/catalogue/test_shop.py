"""The shipped policies say what the design fixes, and take every message of the real data set."""

import hashlib
from decimal import Decimal

import msgspec

from tests.policy.folder import FOLDER, shipped, shop
from vault.catalogue.audiences import Test as Leaf
from vault.catalogue.load import load, read_folder
from vault.clock import DAY, Micros


def test_the_purposes_and_their_bases_are_those_that_were_fixed() -> None:
    bases = {purpose.name: purpose.legal_basis for purpose in shop().purposes.values()}
    assert bases == {
        "service": "contract",
        "support": "contract",
        "accounting": "legal_obligation",
        "fraud_prevention": "legitimate_interests",
        "analytics": "consent",
        "personalisation": "consent",
        "marketing": "consent",
        "advertising": "consent",
    }


def test_consent_categories_mean_their_purposes() -> None:
    catalogue = shop()
    assert {name: catalogue.names(mask) for name, mask in catalogue.categories.items()} == {
        "functional": ("personalisation",),
        "analytics": ("analytics",),
        "advertising": ("marketing", "advertising"),
    }
    assert catalogue.mapped == catalogue.mask(["personalisation", "analytics", "marketing", "advertising"])


def test_every_purpose_has_exactly_one_way_to_be_permitted() -> None:
    catalogue = shop()
    masks = (catalogue.consent_mask, catalogue.interest_mask, catalogue.always_mask)
    assert masks[0] | masks[1] | masks[2] == catalogue.all_purposes
    assert not masks[0] & masks[1]
    assert not masks[0] & masks[2]
    assert not masks[1] & masks[2]
    assert catalogue.names(catalogue.interest_mask) == ("fraud_prevention",)
    assert catalogue.names(catalogue.always_mask) == ("service", "support", "accounting")


def test_what_a_consent_allows_ends_after_three_years() -> None:
    for purpose in shop().purposes.values():
        assert (purpose.expires is not None) == (purpose.legal_basis == "consent")
        if purpose.expires is not None:
            assert purpose.expires == purpose.retention == 3 * (365 * DAY + DAY // 4)


def test_accounting_is_kept_for_ten_years_after_the_end_of_the_year() -> None:
    accounting = shop().purposes["accounting"]
    assert (accounting.on_erasure, accounting.keep_ground) == ("keep", "17-3-b")
    said = Micros(1_772_442_000_000_000)  # 2026-03-02
    year_end = 1_798_761_600_000_000  # 2027-01-01
    assert accounting.kept_until(said) == year_end + 10 * (365 * DAY + DAY // 4)
    assert msgspec.structs.replace(accounting, retention=None).kept_until(said) is None
    service = shop().purposes["service"]
    assert service.kept_until(said) == said + 3 * (365 * DAY + DAY // 4)


def test_orders_and_addresses_are_collected_for_what_was_fixed() -> None:
    catalogue = shop()
    order = catalogue.events["track", "Order Completed"]
    assert set(catalogue.names(order.purposes)) == {
        "service", "support", "accounting", "analytics", "marketing", "advertising",
    }  # fmt: skip
    assert set(catalogue.names(catalogue.traits["email"].purposes)) == {
        "service",
        "support",
        "marketing",
        "advertising",
    }


def test_accounting_holds_order_number_amount_and_currency_and_nothing_else() -> None:
    catalogue = shop()
    accounting = catalogue.purposes["accounting"].mask
    order = catalogue.events["track", "Order Completed"]
    assert {one.name for one in order.properties.values() if one.purposes & accounting} == {
        "order_id", "revenue", "currency",
    }  # fmt: skip
    assert not [trait.name for trait in catalogue.traits.values() if trait.purposes & accounting]
    assert not [kind.name for kind in catalogue.identifiers.values() if kind.purposes & accounting]


def test_everything_in_the_real_data_set_is_declared_with_its_type() -> None:
    """As the CDNOW purchases come: identify with email and createdAt, orders with four properties."""
    catalogue = shop()
    assert {catalogue.traits["email"].type, catalogue.traits["createdAt"].type} == {"text", "time"}
    order = catalogue.events["track", "Order Completed"]
    assert {name: order.properties[name].type for name in ("order_id", "revenue", "currency", "quantity")} == {
        "order_id": "text",
        "revenue": "number",
        "currency": "text",
        "quantity": "integer",
    }
    places = {place for kind in catalogue.identifiers.values() for place in kind.take_from}
    assert {"userId", "traits.email", "properties.order_id"} <= places
    assert not catalogue.identifiers["user_id"].blocks("cdnow-00001")
    assert not catalogue.identifiers["email"].blocks("c00001@example.com")
    assert not catalogue.identifiers["order_id"].blocks("000017")


def test_an_order_number_that_is_only_zeros_identifies_nobody() -> None:
    assert shop().identifiers["order_id"].blocks("000000")


def test_filler_identifies_nobody() -> None:
    for name in ("user_id", "anonymous_id"):
        kind = shop().identifiers[name]
        for value in ("", "  ", "0", "00000000-0000-0000-0000-000000000000", "-1", "null", "NULL", "Undefined", "void"):
            assert kind.blocks(value), (name, value)
        for value in ("٠", "1", "00000000-0000-0000-0000-000000000001", "nullify"):
            assert not kind.blocks(value), (name, value)


def test_computed_traits_and_the_audience_are_those_that_were_fixed() -> None:
    catalogue = shop()
    value = catalogue.computed["lifetime_value"]
    assert (value.kind, value.property, value.currency, catalogue.names(value.purposes)) == (
        "sum", "revenue", "USD", ("analytics",),
    )  # fmt: skip
    assert catalogue.computed["order_count"].kind == "count"
    assert catalogue.names(catalogue.computed["ad_value"].purposes) == ("advertising",)
    order = catalogue.events["track", "Order Completed"].number
    assert {one.name for one in catalogue.computed_by_event[order]} == {
        "lifetime_value", "order_count", "first_order_at", "last_order_at", "ad_value",
    }  # fmt: skip
    best = catalogue.audiences["best_customers"]
    assert best.condition == Leaf("ad_value", "at_least", 200)
    assert catalogue.purpose_by_number[best.purpose].name == "advertising"


def test_pages_of_any_name_are_found_and_tracks_are_not() -> None:
    catalogue = shop()
    pricing = catalogue.event("page", "Pricing")
    assert pricing is not None
    assert pricing.name == "*"
    assert catalogue.event("track", "Never Declared") is None
    assert catalogue.event("track", "*") is None


def test_the_digest_names_every_path_and_text() -> None:
    files = shipped()
    digest = load(files).digest
    assert digest == load(dict(reversed(list(files.items())))).digest
    files["gate/rules.csv"] += "# a comment\n"
    assert load(files).digest != digest


def test_notices_are_named_and_digested_by_their_bytes() -> None:
    found = shop().notices["marketing", "1", "en"]
    assert found == hashlib.sha256((FOLDER / "notices/marketing/1.en.md").read_bytes()).digest()


def test_numbers_lead_back_to_names() -> None:
    catalogue = shop()
    for written, number in catalogue.rule_objects.items():
        assert written.endswith(catalogue.object_name(number))
    assert len(catalogue.objects) == len(catalogue.rule_objects)


def test_thresholds_are_exact() -> None:
    files = read_folder(FOLDER)
    files["audiences.toml"] = files["audiences.toml"].replace("at_least = 200", "at_least = 199.99")
    assert load(files).audiences["best_customers"].condition == Leaf("ad_value", "at_least", Decimal("199.99"))


def test_faces_are_short() -> None:
    """A catalogue prints its digest, not its files."""
    assert repr(shop()) == f"Catalogue({shop().digest.hex()[:12]})"
