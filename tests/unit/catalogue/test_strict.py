"""Whatever is wrong in the folder is an error that names file, line and remedy; several are told at once."""

import contextlib
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.folder import edited, extended, line_of, shipped
from vault.catalogue.audiences import OPERATORS, Any, None_
from vault.catalogue.audiences import Test as Leaf
from vault.catalogue.load import load, read_folder
from vault.catalogue.numbers import MAX_PURPOSE
from vault.catalogue.toml import Problems
from vault.clock import isoformat
from vault.errors import PolicyError

SHAPE = re.compile(r"[a-z0-9_./-]+:[0-9]+: .+; .+")

TEAM = '[group."Team"]\nnumber = 90\npurposes = ["service"]\n[group."Team".properties]\n'
CASES = [
    # file, old, new, the problem is on the line that holds, what it says
    ("purposes.toml", "number = 1\n", "number = 0  # no\n", "# no", "is 0, which is `service`"),
    ("purposes.toml", "number = 7", "number = 63", "number = 63", f"0 to {MAX_PURPOSE}"),
    ("purposes.toml", "number = 7", "number = true", "number = true", "wrong type"),
    ("purposes.toml", "number = 7", 'number = "7"', 'number = "7"', "wrong type"),
    ("purposes.toml", "gpc = true", "gcp = true", "gcp = true", "did you mean `gpc`"),
    ("purposes.toml", 'legal_basis = "legal_obligation"', 'legal_basis = "law"', '"law"', "is `law`"),
    ("purposes.toml", "#ServiceProvision", "#service provision", "#service", "no DPV term"),
    ("purposes.toml", 'expires = "P3Y"', 'expires = "3 years"', "3 years", "ISO 8601"),
    ("purposes.toml", 'retention = "P1Y"', 'retention = "P"', '"P"', "ISO 8601"),
    ("purposes.toml", 'notice = "analytics"', 'notice = "statistics"', "statistics", "is `statistics`"),
    ("purposes.toml", "tcf = [8, 9, 10]", "tcf = [8, 12]", "tcf = [8", "1 to 11"),
    ("purposes.toml", 'objection = "weighed"\n', "", 'legal_basis = "legitimate_interests"', "objection"),
    ("purposes.toml", 'objection = "absolute"', 'objection = "weighed"  # no', "# no", "must be `absolute`"),
    ("purposes.toml", 'keep_ground = "17-3-b"\n', "", "[accounting]", "keep_ground"),
    ("purposes.toml", "[support]", "[sup port]", "sup port", "not TOML"),
    ("traits.toml", "user.contact.phone_number", "user.contact.fon", "user.contact.fon", "did you mean"),
    ("traits.toml", 'search = "words"', 'search = "fuzzy"', "fuzzy", "is `fuzzy`"),
    ("traits.toml", "[username]", '["user name"]', "user name", "unfit name"),
    ("traits.toml", 'purposes = ["personalisation"]', "purposes = []", "purposes = []", "is empty"),
    (
        "traits.toml",
        'purposes = ["personalisation"]',
        'purposes = ["personalization"]',
        "personalization",
        "did you mean",
    ),
    ("traits.toml", 'category = "user.behavior"\n', "", "[favourites]", "is missing"),
    (
        "traits.toml",
        'purposes = ["personalisation"]',
        'sensitivity = "special"\npurposes = ["personalisation"]  # no',
        "# no",
        "no `art9`",
    ),
    ("events.toml", "[page.", "[pages.", "[pages.", "no type of call"),
    ("events.toml", '[track."Order Completed"]', '[track."Order, Completed"]', "Order, Completed", "unfit name"),
    ("events.toml", '[track."Signed Out"]', '[track."*"]', 'track."*"', "unfit name"),
    (
        "events.toml",
        '"service", "support", "accounting", "analytics"] }',
        '"fraud_prevention"] }',
        "order_id = { number = 1",
        "which the whole",
    ),
    (
        "events.toml",
        "revenue = { number = 2",
        "revenue = { number = 1",
        "revenue = { number = 1",
        "which is `order_id`",
    ),
    ("identities.toml", "priority = 3", "priority = 2  # no", "# no", "rank every kind"),
    ("identities.toml", 'take_from = ["userId"]', 'take_from = ["user.id"]', "user.id", "names `user.id`"),
    ("identities.toml", "joins = false\n", "", "[order_id]", "is missing"),
    ("identities.toml", "limit = 1\n", "limit = 0\n", "limit = 0", "whole number"),
    ("identities.toml", 'normal_form = "phone"', 'normal_form = "e164"', "e164", "is `e164`"),
    ("computed.toml", 'property = "revenue"', 'property = "profit"', "profit", "does not have"),
    ("computed.toml", 'property = "revenue"', 'property = "coupon"', '"coupon"', "no number"),
    (
        "computed.toml",
        'purposes = ["advertising"]',
        'purposes = ["personalisation"]',
        '"personalisation"',
        "source is not collected",
    ),
    ("computed.toml", 'currency = "USD"', 'currency = "usd"', "usd", "no currency"),
    ("computed.toml", "[order_count]", "[email]", "[email]", "is a trait too"),
    ("audiences.toml", "ad_value", "lifetime_value", "lifetime_value", "may not see"),
    ("audiences.toml", "ad_value", "ad_worth", "ad_worth", "no trait"),
    ("audiences.toml", "at_least = 200", 'at_least = "200"', "at_least", "does not fit"),
    ("audiences.toml", "at_least = 200", "at_least = true", "at_least", "does not fit"),
    ("audiences.toml", "at_least = 200", "more_than = 200", "more_than", "faulty test"),
    ("audiences.toml", '{ trait = "ad_value", at_least = 200 }', "{ all = [] }", "all = []", "faulty `all`"),
    ("audiences.toml", "at_least = 200", "exists = false", "exists", "does not fit"),
    ("audiences.toml", "at_least = 200", "at_least = nan", "at_least", "does not fit"),
    ("destinations.toml", 'transfer = "Standard', '# transfer = "Standard', "[ad-platform]", "outside the EEA"),
    ("destinations.toml", 'country = "US"', 'country = "USA"', "USA", "two capitals"),
    ("destinations.toml", 'phone = ["mask"]', 'phone = ["hide"]', 'phone = ["hide"]', "no transform"),
    ("destinations.toml", 'phone = ["mask"]', 'phone = ["prefix:0"]', "prefix:0", "no transform"),
    ("destinations.toml", 'phone = ["mask"]', 'fax = ["mask"]', "[support-desk.traits]", "not declared"),
    (
        "destinations.toml",
        'order_count = ["reveal"]',
        'phone = ["reveal"]',
        "[warehouse.traits]",
        "none of the contract's purposes",
    ),
    (
        "destinations.toml",
        'which = "last", transforms = ["sha256"]',
        'which = "newest", transforms = ["sha256"]',
        "newest",
        "is `newest`",
    ),
    ("destinations.toml", 'audiences = ["best_customers"]', 'audiences = ["worst"]', "worst", "not declared"),
    ("destinations.toml", 'plan = ["reveal"]', 'revenue = ["reveal"]', "[support-desk.accounts]", "not declared"),
    ("destinations.toml", 'plan = ["reveal"]', 'plan = ["hide"]', 'plan = ["hide"]', "no transform"),
    (
        "destinations.toml",
        "[support-desk.accounts]",
        "[warehouse.accounts]",
        "[warehouse.accounts]",
        "none of the contract",
    ),
    (
        "identities.toml",
        "account = true\njoins = false",
        "account = true\njoins = true  # no",
        "# no",
        "members are not one",
    ),
    ("identities.toml", "account = true\n", "", '["groupId"]', "it names no person"),
    ("identities.toml", '["groupId"]', '["userId"]  # no', "# no", "is that of a person"),
    ("identities.toml", "limit = 50", "limit = 201", "limit = 201", "at most 200"),
    ("events.toml", "industry = { number = 2", "industry = { number = 4096", "industry", "from 1 to 4095"),
    (
        "events.toml",
        '[group."*"]\n',
        f'{TEAM}name = {{ number = 1, type = "number", category = "user.contact.organization" }}\n\n[group."*"]\n',
        '[group."*".properties]',
        "otherwise than another group call",
    ),
    (
        "events.toml",
        '[group."*"]\n',
        f'{TEAM}size = {{ number = 4, type = "integer", category = "user.account" }}\n\n[group."*"]\n',
        '[group."*".properties]',
        "the number of `size`",
    ),
    ("destinations.toml", "timeline = true", 'timeline = true\nends = "2030"', "ends =", "write a date"),
    ("staff.toml", "[marketer]", '[marketer]\nsees = "all"', "sees =", "not known here"),
    ("purposes.toml", 'title = "Answering the customer\'s questions"', 'title = " "', 'title = " "', "is empty"),
    (
        "purposes.toml",
        'legal_basis = "contract"',
        'legal_basis = "contract"\nexpires = "P1Y"',
        "expires =",
        "life of a choice",
    ),
    (
        "purposes.toml",
        'legal_basis = "contract"',
        'legal_basis = "contract"\ncategories = ["x"]',
        '["x"]',
        "no banner decides",
    ),
    ("purposes.toml", 'notice = "analytics"\n', "", 'legal_basis = "consent"', "with no `notice`"),
    ("purposes.toml", 'retention = "P10Y"\n', "", "on_erasure", "without an end"),
    ("purposes.toml", 'kind = ["profiling"]', "kind = [1]", "kind = [1]", "list of texts"),
    ("purposes.toml", 'kind = ["profiling"]', 'kind = ["profiling", "profiling"]', '"profiling", "profiling"', "twice"),
    ("computed.toml", 'property = "revenue"\n', "", 'kind = "sum"', "of no `property`"),
    ("computed.toml", 'type = "number"', 'type = "text"', 'type = "text"', "does not fit a sum"),
    ("computed.toml", 'currency = "USD"\n', "", "[lifetime_value]", "only one of"),
    ("audiences.toml", "at_least = 200", "one_of = []", "one_of", "faulty `one_of`"),
    ("audiences.toml", "at_least = 200", 'before = "soon"', "before", "does not fit"),
    ("audiences.toml", '{ trait = "ad_value", at_least = 200 }', '"everyone"', "everyone", "no condition"),
    (
        "audiences.toml",
        '{ trait = "ad_value"',
        '{ all = [{ trait = "ad_value", at_least = 1 }], trait = "ad_value"',
        "all =",
        "faulty `all`",
    ),
    (
        "destinations.toml",
        "[warehouse.traits]",
        "[warehouse.was]\n[warehouse2.traits]",
        "[warehouse.was]",
        "not known here",
    ),
    (
        "events.toml",
        '[track."Signed Out"]',
        '[track."Signed Out"]\nproperties = 1',
        "properties = 1",
        "must be a table",
    ),
]


def problems_of(files: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as raised:
        load(files)
    assert all(SHAPE.fullmatch(problem) for problem in raised.value.problems), raised.value.problems
    return raised.value.problems


@pytest.mark.parametrize(("path", "old", "new", "where", "says"), CASES, ids=[f"{c[0]}-{c[2][:30]}" for c in CASES])
def test_a_mistake_is_named_with_its_line_and_remedy(path: str, old: str, new: str, where: str, says: str) -> None:
    files = edited(path, old, new)
    found = [problem for problem in problems_of(files) if says in problem]
    assert found, problems_of(files)
    place = f"{path}:{line_of(files, path, where)}: "
    assert any(problem.startswith(place) for problem in found), (place, found)


def test_a_second_kind_for_accounts_is_refused() -> None:
    files = edited("identities.toml", "account = true\n", "account = true  # second\n")
    order = 'joins = false\ntake_from = ["properties.order_id"]'
    files["identities.toml"] = files["identities.toml"].replace(
        order, 'account = true\njoins = false\ntake_from = ["groupId"]'
    )
    place = f"identities.toml:{line_of(files, 'identities.toml', '# second')}: "
    assert any(one.startswith(place) and "a second kind" in one for one in problems_of(files))


@pytest.mark.parametrize(
    ("path", "old", "new", "where", "told"),
    [
        ("purposes.toml", 'notice = "analytics"', 'notice = "statistics"', "statistics", "notices/statistics/1.en.md"),
        ("purposes.toml", 'legal_basis = "consent"', 'legal_basis = "vibes"', '"vibes"', "is `vibes`"),
        ("purposes.toml", 'legal_basis = "contract"', 'legal_basis = "vibes"', '"vibes"', "is `vibes`"),
        ("purposes.toml", "[support]", "[sup port]", "sup port", "this is not TOML at column 6: expected ']'"),
        ("traits.toml", "[email]", '[email]\nnote = "x', 'note = "x', "this is not TOML at column 10: illegal character"),
        ("events.toml", "number = 1\n", "number = 1\nnumber = 1\n", "number = 1\nnumber", "cannot overwrite a value"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_problem_with_the_way_out(path: str, old: str, new: str, where: str, told: str) -> None:
    """A remedy that would break the folder further, or a problem that is none, sends people astray."""
    (problem,) = problems_of(edited(path, old, new))
    assert told in problem
    assert "remove it" not in problem


def test_the_only_notice_of_a_purpose_that_is_gone_is_to_be_written() -> None:
    files = {path: text for path, text in shipped().items() if not path.startswith("notices/")}
    told = problems_of(files)
    assert all("write the text as notices/" in problem and "remove it" not in problem for problem in told)


def test_all_problems_are_told_at_once() -> None:
    files = edited("purposes.toml", "gpc = true", "gcp = true")
    files["traits.toml"] = files["traits.toml"].replace('search = "exact"', 'search = "exactly"', 1)
    del files["staff/rules.csv"]
    told = problems_of(files)
    assert len(told) == 3
    assert any(problem.startswith("staff/rules.csv:1: the file is missing") for problem in told)


@pytest.mark.parametrize(
    "path", ["readme.md", "purposes.yaml", "notices/x.md", "notices/x/1.english.md", "tests/a/b.toml"]
)
def test_a_file_that_nobody_reads_is_refused(path: str) -> None:
    files = shipped() | {path: "x = 1\n"}
    assert any(problem.startswith(f"{path}:1: no file of this name") for problem in problems_of(files))


def test_an_empty_notice_is_refused() -> None:
    assert "the notice is empty" in problems_of(shipped() | {"notices/marketing/2.en.md": " \n"})[0]


@pytest.mark.parametrize("path", sorted(path for path in shipped() if path.endswith(".toml") and "/" not in path))
def test_an_unknown_table_or_key_at_the_top_is_refused(path: str) -> None:
    assert any(path in problem for problem in problems_of(extended(path, "[strange]\nwhat = 1\n")))
    files = shipped()
    files[path] = "what = 1\n" + files[path]
    assert any("`what` must be a table" in problem for problem in problems_of(files))


@settings(deadline=None)
@given(st.sampled_from(sorted(path for path in shipped() if path.endswith(".toml"))), st.data())
def test_a_file_cut_anywhere_loads_or_is_a_policy_error(path: str, data: st.DataObject) -> None:
    files = shipped()
    files[path] = files[path][: data.draw(st.integers(0, len(files[path])))]
    with contextlib.suppress(PolicyError):  # anything else fails the test
        load(files)


WRITTEN = st.sampled_from(
    ["true", "false", "0", "-7", "1.5", "nan", "inf", '"x"', '""', "[]", '["a"]', "[[1]]", "{}", "2026-01-01"]
)
WANTED: dict[str, tuple[type, ...]] = {
    "less": (int, Decimal),
    "at_most": (int, Decimal),
    "greater": (int, Decimal),
    "at_least": (int, Decimal),
    "contains": (str,),
    "starts_with": (str,),
    "exists": (bool,),
    "before": (str,),
    "after": (str,),
    "one_of": (tuple,),
    "equals": (str, int, bool, Decimal),
    "not_equals": (str, int, bool, Decimal),
}


@settings(deadline=None)
@given(st.sampled_from(sorted(OPERATORS)), WRITTEN)
def test_no_condition_loads_by_accident(operator: str, written: str) -> None:
    """Whatever loads has a value that the judge can compare with this operator."""
    files = edited("audiences.toml", "at_least = 200", f"{operator} = {written}")
    try:
        condition = load(files).audiences["best_customers"].condition
    except PolicyError:
        return
    assert isinstance(condition, Leaf)
    assert type(condition.value) in WANTED[operator]
    assert written not in {"nan", "inf", "{}", "[]", "[[1]]"}


def test_a_contract_whose_traits_are_no_table_is_refused() -> None:
    files = edited("destinations.toml", "[email-tool.traits]", "[email-tool.former]")
    files["destinations.toml"] = files["destinations.toml"].replace(
        "[email-tool]\n", '[email-tool]\ntraits = ["email"]\n'
    )
    assert any("`traits` must be a table" in problem for problem in problems_of(files))


def test_a_tree_of_conditions_is_read_as_it_stands() -> None:
    written = '{ any = [{ trait = "email", exists = true }, { none = [{ trait = "ad_value", one_of = [1, 2.5] }] }] }'
    files = edited("audiences.toml", '{ trait = "ad_value", at_least = 200 }', written)
    assert load(files).audiences["best_customers"].condition == Any(
        (Leaf("email", "exists", True), None_((Leaf("ad_value", "one_of", (1, Decimal("2.5"))),)))
    )


def test_a_tree_too_deep_to_review_is_refused() -> None:
    written = "{ all = [" * 9 + '{ trait = "ad_value", at_least = 1 }' + "] }" * 9
    assert "no condition" in problems_of(edited("audiences.toml", '{ trait = "ad_value", at_least = 200 }', written))[0]


def test_a_contract_ends_with_its_last_day() -> None:
    files = edited("destinations.toml", "timeline = true", "timeline = true\nends = 2027-12-31")
    ends = load(files).contracts["support-desk"].ends
    assert ends is not None
    assert isoformat(ends) == "2028-01-01T00:00:00.000Z"


def test_the_same_problem_is_told_once() -> None:
    problems = Problems()
    problems.add("a.toml", 1, "wrong", "right it")
    problems.add("a.toml", 1, "wrong", "right it")
    assert problems.lines == ["a.toml:1: wrong; right it"]


def test_links_and_strange_files_in_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "purposes.toml").write_text("")
    (tmp_path / "link.toml").symlink_to(tmp_path / "purposes.toml")
    (tmp_path / "notes.docx").write_text("")
    (tmp_path / "latin.md").write_bytes(b"\xe9")
    (tmp_path / ".hidden").write_text("left out")
    with pytest.raises(PolicyError) as raised:
        read_folder(tmp_path)
    assert [problem.split(":")[0] for problem in raised.value.problems] == ["latin.md", "link.toml", "notes.docx"]


def test_a_missing_folder_is_a_policy_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such folder"):
        read_folder(tmp_path / "nowhere")
