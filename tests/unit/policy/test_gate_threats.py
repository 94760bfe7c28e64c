"""The gate against the ways in which Casbin fails open (threats E1 to E16). Each is tried as an author could write it."""

import contextlib
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.folder import edited, extended, line_of, shipped, shop
from vault.catalogue.load import Catalogue, load
from vault.errors import ConfigError, PolicyError
from vault.policy.gate import Gate
from vault.policy.oracle import Oracle, check_evaluator
from vault.policy.rules import GATE_MODEL_TEXT, STAFF_MODEL_TEXT, GateRules, Rule
from vault.policy.staff import StaffGate

EMAIL, LIFETIME, ADS, ANALYTICS, WAREHOUSE, AD_PLATFORM = 1, 0xC001, 7, 4, 1, 3
ALLOWED = "p, d:ad-platform, trait:email, advertising, sha256:google, allow"


def refused(files: dict[str, str]) -> tuple[str, ...]:
    catalogue = load(files)
    with pytest.raises(PolicyError) as raised:
        Gate.compile(catalogue)
    return raised.value.problems


def given_anywhere(catalogue: Catalogue) -> list[tuple[int, str]]:
    gate = Gate.compile(catalogue)
    return [
        pair
        for contract in catalogue.contracts_by_number
        for purpose in catalogue.purpose_by_number
        for pair in gate.objects(contract, purpose)
    ]


def test_e1_no_rules_means_nothing_is_given() -> None:
    for text in ("", "\n\n", "# nothing yet\n"):
        assert given_anywhere(load(shipped() | {"gate/rules.csv": text})) == []


def test_e1_no_rules_and_empty_words_are_a_no() -> None:
    oracle = Oracle.of_gate(GateRules((), {}))
    assert not oracle.ask("", "", "", "", "")
    assert not oracle.gives("warehouse", "trait:email", "analytics", "reveal")


def test_e1_an_empty_word_is_a_no_with_rules_too() -> None:
    oracle = Oracle.of_gate(GateRules((Rule(1, "d:a", "trait:b", "c", "reveal", "allow"),), {}))
    assert oracle.ask("d:a", "trait:b", "trait:*", "c", "reveal")
    for position in range(5):
        words = ["d:a", "trait:b", "trait:*", "c", "reveal"]
        words[position] = ""
        assert not oracle.ask(*words)


def test_e1_an_empty_cell_is_refused() -> None:
    assert "empty cell" in refused(edited("gate/rules.csv", ALLOWED, ALLOWED.replace("advertising", "")))[0]


@pytest.mark.parametrize("effect", ["Deny", "DENY", "denied", "deny;", "true", "Allow", "no"])
def test_e2_a_mistyped_effect_is_refused_with_its_line(effect: str) -> None:
    files = edited("gate/rules.csv", "trait:email, *, reveal, deny", f"trait:email, *, reveal, {effect}  ")
    problem = refused(files)[0]
    assert problem.startswith(f"gate/rules.csv:{line_of(files, 'gate/rules.csv', f', {effect}  ')}: no effect")


@pytest.mark.parametrize(
    "line",
    [
        "deny, d:ad-platform, trait:email",
        "p2, d:ad-platform, trait:email, advertising, reveal, deny",
        "G, d:warehouse, r:outside",
        "x",
    ],
)
def test_e3_a_line_of_unknown_kind_is_refused(line: str) -> None:
    assert "begin it with `p` or `g`" in refused(extended("gate/rules.csv", line))[0]


@pytest.mark.parametrize(
    "object_",
    [
        "trait:*",
        "trait:e*",
        "trait:em.*",
        "trait:/email",
        "trait:^email$",
        "*",
        "traits/*/public",
        "identifier:*",
        "audience:*",
    ],
)
def test_e4_e5_e6_a_pattern_never_allows(object_: str) -> None:
    line = f"p, d:ad-platform, {object_}, advertising, sha256:google, allow"
    assert any(word in refused(extended("gate/rules.csv", line))[0] for word in ("no object", "a star that allows"))


@pytest.mark.parametrize("cells", ["trait:email, *, sha256:google", "trait:email, advertising, *"])
def test_e4_a_star_for_purpose_or_form_never_allows(cells: str) -> None:
    assert "a star that allows" in refused(extended("gate/rules.csv", f"p, d:ad-platform, {cells}, allow"))[0]


def test_e5_names_match_whole_and_exactly() -> None:
    oracle = Oracle.of_gate(GateRules((Rule(1, "d:a", "trait:email", "c", "reveal", "allow"),), {}))
    assert oracle.gives("a", "trait:email", "c", "reveal")
    for name in ("trait:email_all", "trait:Email", "trait:emai", "trait:email\n", " trait:email", "trait:email "):
        assert not oracle.gives("a", name, "c", "reveal")


MATCHERS = [
    "m = eval(p.sub_rule)",
    "m = keyMatch(r.obj, p.obj)",
    "m = regexMatch(r.obj, p.obj)",
    "m = true",
    'm = g(r.sub, p.sub) && (r.obj == p.obj || r.every == p.obj) && (r.purpose == p.purpose || p.purpose == "*")',
]


@pytest.mark.parametrize("matcher", MATCHERS)
def test_e7_e9_another_matcher_is_refused(matcher: str) -> None:
    files = shipped()
    head = files["gate/model.conf"].split("m = ")[0]
    assert "not the model" in refused(files | {"gate/model.conf": head + matcher + "\n"})[0]


@pytest.mark.parametrize(
    "effect",
    [
        "e = !some(where (p.eft == deny))",
        "e = some(where (p.eft == allow))",
        "e = priority(p.eft) || deny",
        "e = some(where (p_eft == allow))",
    ],
)
def test_e1_another_effect_is_refused(effect: str) -> None:
    old = "e = some(where (p.eft == allow)) && !some(where (p.eft == deny))"
    assert "not the model" in refused(edited("gate/model.conf", old, effect))[0]
    files = edited("staff/model.conf", old, effect)
    with pytest.raises(PolicyError, match="not the model"):
        StaffGate.compile(load(files))


def test_a_model_may_differ_in_spaces_and_comments_only() -> None:
    files = edited("gate/model.conf", "g = _, _", "# roles\n  g  =  _,   _")
    assert given_anywhere(load(files)) == given_anywhere(shop())


@pytest.mark.parametrize(
    "subject",
    ["True) or (True", "d:ad-platform' or 'a'=='a", "__import__('os')", "d:ad-platform || true", "ad-platform"],
)
def test_e7_text_that_would_be_code_is_no_name(subject: str) -> None:
    assert (
        "no destination"
        in refused(extended("gate/rules.csv", f"p, {subject}, trait:email, advertising, reveal, allow"))[0]
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 9])
def test_e8_a_line_of_other_length_is_refused_alone(count: int) -> None:
    """In Casbin such a line makes every question an error. The others are still checked: two bad lines are two problems."""
    cells = ["d:ad-platform", "trait:email", "advertising", "reveal", "deny", *["more"] * 9][:count]
    line = ", ".join(["p", *cells])
    assert len(refused(extended("gate/rules.csv", f"{line}\n{line}"))) == 2


def test_e8_an_error_inside_casbin_is_a_no() -> None:
    oracle = Oracle(GATE_MODEL_TEXT, [("d:a", "trait:b", "c", "reveal")], ())  # one cell short
    assert not oracle.gives("a", "trait:b", "c", "reveal")
    assert not Oracle(STAFF_MODEL_TEXT, [("r:a", "b", "allow")], ()).ask("r:a")


@pytest.mark.parametrize(
    "text", ['"d:ad-platform"', "d:ad-platform\x0b", "d:ad-platform\u2028p", "d:ad‑platform", "d:ad-platform\x00"]
)
def test_e11_quotes_and_strange_characters_are_refused(text: str) -> None:
    files = edited("gate/rules.csv", ALLOWED, ALLOWED.replace("d:ad-platform", text))
    assert any("not plain ASCII" in problem for problem in refused(files))


def test_e11_names_that_could_break_a_line_are_refused_where_they_are_declared() -> None:
    for name in ('"x\\np, d:ad-platform, trait:email, advertising, reveal, allow"', '"a,b"', '"a\\tb"'):
        with pytest.raises(PolicyError, match="unfit name"):
            load(edited("traits.toml", "[username]", f"[{name}]"))
        with pytest.raises(PolicyError, match="unfit name"):
            load(edited("events.toml", '[track."Signed Out"]', f"[track.{name}]"))


@pytest.mark.parametrize(
    "line",
    [
        "g, d:warehouse, d:email-tool",
        "g, d:warehouse, outside",
        "g, d:warehouse",
        "g, d:warehouse, r:",
    ],
)
def test_e12_roles_do_not_nest(line: str) -> None:
    assert "no membership" in refused(extended("gate/rules.csv", line))[0]


def test_e12_a_role_has_no_role() -> None:
    assert "no destination `r:outside`" in refused(extended("gate/rules.csv", "g, r:outside, r:more"))[0]


def test_e12_a_deny_reached_through_a_role_holds() -> None:
    files = extended("gate/rules.csv", "p, r:outside, trait:email, *, *, deny")
    gate = Gate.compile(load(files))
    assert gate.transform_for(AD_PLATFORM, EMAIL, ADS) is None
    assert gate.explain(AD_PLATFORM, EMAIL, ADS).verdict == "denied"


def test_e13_a_destination_named_like_a_role_is_not_that_role() -> None:
    files = shipped()
    files["destinations.toml"] = files["destinations.toml"].replace("email-tool", "outside")
    files["gate/rules.csv"] = (
        files["gate/rules.csv"].replace("d:email-tool", "d:outside").replace("g, d:outside, r:outside\n", "")
    )
    files["gate/rules.csv"] += "p, r:outside, trait:firstName, *, *, deny\n"
    gate = Gate.compile(load(files))
    assert gate.transform_for(2, 2, 6) == "reveal"  # the destination `outside` has no role


def test_e13_a_role_that_nobody_has_is_refused() -> None:
    assert (
        "no destination has the role" in refused(extended("gate/rules.csv", "p, r:nobody, trait:email, *, *, deny"))[0]
    )


def test_e14_nothing_is_logged_by_casbin(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        given_anywhere(shop())
    assert not [record for record in caplog.records if record.name.startswith("casbin")]
    assert capfd.readouterr() == ("", "")


def test_e15_no_way_to_switch_enforcing_off_is_handed_out() -> None:
    for thing in (Gate.compile(shop()), StaffGate.compile(shop()), Oracle.of_gate(GateRules((), {}))):
        public = {name for name in dir(thing) if not name.startswith("_")}
        assert public <= {
            "compile", "policy", "transform_for", "objects", "explain", "release", "compute", "rights", "staff",
            "allows", "needs_second_person", "of_gate", "of_staff", "ask", "gives",
        }  # fmt: skip


@pytest.mark.parametrize("installed", ["1.0.4", "1.0", "0.9.13", "1.0.5rc1", ""])
def test_e16_an_evaluator_with_a_known_escape_is_refused(installed: str) -> None:
    with pytest.raises(ConfigError):
        check_evaluator(installed)


def test_e16_newer_evaluators_are_taken() -> None:
    for installed in ("1.0.5", "1.0.8", "1.1.0", "2.0"):
        check_evaluator(installed)


def test_a_line_said_twice_or_contradicted_is_refused() -> None:
    assert "says this already" in refused(extended("gate/rules.csv", ALLOWED))[0]
    assert "or the contrary" in refused(extended("gate/rules.csv", ALLOWED.replace("allow", "deny")))[0]
    assert "same line again" in refused(extended("gate/rules.csv", "g, d:email-tool, r:outside"))[0]


@pytest.mark.parametrize(
    "line",
    [
        "p, d:warehouse, trait:phone, support, reveal, allow",  # no contract for it
        "p, d:ad-platform, trait:email, marketing, sha256:google, allow",  # not this purpose
        "p, d:ad-platform, trait:email, advertising, sha256:meta, allow",  # not this form
    ],
)
def test_an_allowance_that_no_contract_asks_for_is_refused(line: str) -> None:
    assert "allows what no contract asks for" in refused(extended("gate/rules.csv", line))[0]


def test_too_many_rules_are_refused() -> None:
    many = "\n".join("p, d:ad-platform, trait:email, *, year, deny" for _ in range(10_001))
    assert any("over 10000 rules" in problem for problem in refused(extended("gate/rules.csv", many)))


WORDS = st.one_of(
    st.sampled_from(
        [
            "p",
            "g",
            "d:ad-platform",
            "r:outside",
            "trait:email",
            "trait:*",
            "*",
            "advertising",
            "reveal",
            "allow",
            "deny",
        ]
    ),
    st.text(max_size=8),
)


@settings(deadline=None, max_examples=60)  # each compiles a whole gate
@given(st.lists(WORDS, max_size=8))
def test_a_line_more_gives_nothing_more_than_it_says(words: list[str]) -> None:
    """Whatever is added to the rules either is refused, or gives at most what an exact allow line names."""
    line = ", ".join(words)
    catalogue = load(extended("gate/rules.csv", line))
    before = set(given_anywhere(shop()))
    try:
        after = set(given_anywhere(catalogue))
    except PolicyError:
        return
    assert after <= before | ({(EMAIL, "reveal")} if words[-1:] == ["allow"] else set())


@settings(deadline=None, max_examples=60)  # each compiles a whole gate
@given(st.text(max_size=200))
def test_arbitrary_text_as_rules_gives_nothing(text: str) -> None:
    with contextlib.suppress(PolicyError):
        assert given_anywhere(load(shipped() | {"gate/rules.csv": text})) == []


@settings(deadline=None, max_examples=60)  # each compiles a whole gate
@given(st.text(max_size=200))
def test_arbitrary_text_as_a_model_is_refused(text: str) -> None:
    assert "not the model" in refused(shipped() | {"gate/model.conf": text})[0]
