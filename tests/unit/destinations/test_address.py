"""Claims about the addresses that webhooks may reach (threats H1). No look-up leaves the test: the resolver is a table."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.destinations.address import allowed, resolve_target, split_url
from vault.errors import Invalid

LOOPBACK = [ip_network("127.0.0.0/8")]


class Names:
    """A resolver that answers from a list, one answer a question, and counts."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254", "169.254.169.254",
        "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
        "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "100::1",
        "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1",
        "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2606:4700::1111%1",
    ],
)  # fmt: skip
def test_h1_no_special_address_is_called(text: str) -> None:
    assert not allowed(ip_address(text), ())


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"])
def test_public_addresses_are_called(text: str) -> None:
    assert allowed(ip_address(text), ())


@given(st.ip_addresses(v=4))
def test_h1_ipv4_in_an_ipv6_coat_is_never_called(inner: object) -> None:
    packed = int(inner)  # type: ignore[call-overload]
    for coat in ("::ffff:0:0", "64:ff9b::", "::"):
        assert not allowed(IPv6Address(int(IPv6Address(coat)) | packed), ())
    assert not allowed(IPv6Address(0x2002 << 112 | packed << 80), ())


@given(st.ip_addresses())
def test_h1_what_the_library_calls_private_is_never_called(address: object) -> None:
    if not address.is_global or address.is_multicast:  # type: ignore[attr-defined]
        assert not allowed(address, ())  # type: ignore[arg-type]


def test_the_operator_can_open_a_private_network_and_only_that_one() -> None:
    networks = [ip_network("10.1.0.0/16")]
    assert allowed(ip_address("10.1.2.3"), networks)
    assert not allowed(ip_address("10.2.0.1"), networks)
    assert not allowed(ip_address("::ffff:10.1.2.3"), networks)


@pytest.mark.parametrize(
    "url",
    [
        "", "https://", "ftp://a.com/", "file:///etc/passwd", "https://u@a.com/", "https://u:p@a.com/", "https://@a.com/",
        "https://a.com/#x", "https://a.com:0/", "https://a.com:65536/", "https://a.com:x/", "https://a .com/", "https://a\n.com/",
        "https://a.com\\@b.com/", "https://a%2ecom/", "https://ａ.com/", "https://a。com/", "https://a..com/", "https://a.com./",
        "https://-a.com/", "https://[::1/", "https://[fe80::1%25eth0]/", "https://127.1/", "https://2130706433/", "https://0x7f000001/",
        "https://0x7f.1/", "https://0177.0.0.1/", "https://127.0.0.1.1/", "https://a.0x/", "https://1/", "//a.com/", "https:a.com",
        "https://a.com/" + "x" * 2048,
    ],
)  # fmt: skip
async def test_h1_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        await resolve_target(url, LOOPBACK, Names(["127.0.0.1"]))


def test_a_url_is_taken_apart_once() -> None:
    assert split_url("https://Hooks.Example.com/a/b?c=d%20e") == ("https", "hooks.example.com", 443, "/a/b?c=d%20e")
    assert split_url("http://[2606:4700::1111]:8080") == ("http", "2606:4700::1111", 8080, "/")


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:10.0.0.1"], ["8.8.8.8", "fe80::1%eth0"]]
)
async def test_h1_a_name_that_leads_inside_with_any_of_its_addresses_is_refused(answers: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        await resolve_target("https://hooks.example.com/", (), Names(answers))
    assert caught.value.reason == "webhook_address"


async def test_h1_a_name_is_asked_once_and_its_answer_is_pinned() -> None:
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    target = await resolve_target("https://hooks.example.com:8443/in?x=1", (), names)
    assert names.asked == ["hooks.example.com"]
    assert target.url == "https://8.8.8.8:8443/in?x=1"
    assert target.host_header == "hooks.example.com:8443"


async def test_a_literal_address_is_not_looked_up() -> None:
    names = Names()
    assert (await resolve_target("https://[2606:4700::1111]/", (), names)).url == "https://[2606:4700::1111]:443/"
    with pytest.raises(Invalid):
        await resolve_target("https://169.254.169.254/latest/meta-data", (), names)
    assert names.asked == []


async def test_plain_http_is_for_the_operators_own_networks() -> None:
    assert (await resolve_target("http://127.0.0.1:9/", LOOPBACK, Names())).host_header == "127.0.0.1:9"
    with pytest.raises(Invalid):
        await resolve_target("http://8.8.8.8/", LOOPBACK, Names())
    with pytest.raises(Invalid):
        await resolve_target("http://mixed.example/", LOOPBACK, Names(["127.0.0.1", "8.8.8.8"]))


async def test_a_name_without_an_address_is_an_oserror() -> None:
    with pytest.raises(OSError, match="no address"):
        await resolve_target("https://hooks.example.com/", (), Names([]))
