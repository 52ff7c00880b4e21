"""What may be registered as a callback, and above all what may not."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import limits
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import CallbackTarget, check_registration, parse_callback
from dispatcher.errors import ValidationError

STRICT = AddressPolicy()


def problems(url: str, headers: dict[str, str] | None = None) -> dict[str, str]:
    """Field names to messages; fails when the registration is accepted."""
    with pytest.raises(ValidationError) as caught:
        check_registration(url, headers or {}, STRICT)
    return {field.name: field.message for field in caught.value.fields}


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "target", "host_header"),
    [
        ("http://example.com", "http", "example.com", 80, "/", "example.com"),
        ("https://example.com/", "https", "example.com", 443, "/", "example.com"),
        ("HTTPS://Example.COM:443/Path", "https", "example.com", 443, "/Path", "example.com"),
        ("https://example.com:80/", "https", "example.com", 80, "/", "example.com:80"),
        ("http://example.com:65535/a?b=c&d", "http", "example.com", 65535, "/a?b=c&d", "example.com:65535"),
        ("http://example.com?q=/", "http", "example.com", 80, "/?q=/", "example.com"),
        ("http://example.com//x/../y;z", "http", "example.com", 80, "//x/../y;z", "example.com"),
        ("http://example.com./", "http", "example.com", 80, "/", "example.com"),
        ("http://a_b.example-1.com/", "http", "a_b.example-1.com", 80, "/", "a_b.example-1.com"),
        ("http://stra\u00dfe.de/", "http", "xn--strae-oqa.de", 80, "/", "xn--strae-oqa.de"),
        ("http://example\u3002com/", "http", "example.com", 80, "/", "example.com"),
        ("http://8.8.8.8:8080/x", "http", "8.8.8.8", 8080, "/x", "8.8.8.8:8080"),
        ("https://[2606:4700::0:1]/", "https", "2606:4700::1", 443, "/", "[2606:4700::1]"),
        ("http://[2606:4700::1]:81/", "http", "2606:4700::1", 81, "/", "[2606:4700::1]:81"),
    ],
)
def test_a_url_is_taken_apart(
    url: str, scheme: str, host: str, port: int, target: str, host_header: str
) -> None:
    assert check_registration(url, {}, STRICT) == CallbackTarget(
        scheme=scheme, host=host, port=port, target=target, host_header=host_header
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http:example.com",
        "http:/example.com",
        " http://example.com/",
        "http://",
        "http:///path",
        "http://?x",
        "http://:80/",
        "http://example.com:/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:123456/",
        "http://example.com:-1/",
        "http://example.com:80:80/",
        "http://example.com:\u0668\u0660/",
        "http://user@example.com/",
        "http://user:pass@example.com/",
        "http://example.com@127.0.0.1/",
        "http://127.0.0.1#@example.com/",
        "http://example.com/#part",
        "http://example.com#",
        "http://example.com\\@127.0.0.1/",
        "http://exa mple.com/",
        "http://example.com/a b",
        "http://example.com/\ta",
        "http://example.com/a\r\nX-Injected: 1",
        "http://example.com/a\nb",
        "http://example.com/\x00",
        "http://example.com/\x7f",
        "http://example.com/\x85",
        "http://example.com/\u2028",
        "http://example.com/\u00e9",
        "http://example.com/\udc80",
        "http://exam\u200bple.com/",
        "http://exa%6dple.com/",
        "http://%31%32%37.0.0.1/",
        "http://-example.com/",
        "http://example-.com/",
        "http://example..com/",
        "http://.example.com/",
        "http://.",
        "http://" + "a" * 64 + ".com/",
        "http://" + ".".join(["a" * 60] * 5) + "/",
        "http://exa$mple.com/",
        "http://[example.com]/",
        "http://[::g]/",
        "http://[::1/",
        "http://::1/",
        "http://[2606:4700::1]x/",
        "http://[2606:4700::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[v1.x]/",
    ],
)
def test_other_urls_are_refused_as_the_field_url(url: str) -> None:
    assert set(problems(url)) == {"url"}


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7F.1",
        "0X7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.2",
        "127.0.0.01",
        "1.2.3.4.0x1",
        "example.1",
        "example.0x1f",
        "0x",
        "999.1.1.1",
        "\uff12\uff11\uff13\uff10\uff17\uff10\uff16\uff14\uff13\uff13",
    ],
)
def test_hosts_that_a_resolver_may_take_for_a_number_are_refused(host: str) -> None:
    assert problems(f"http://{host}/") == {
        "url": "has a host that is a number; write an address as four decimal parts"
    }


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("127.0.0.1.", "loopback"),
        ("\uff11\uff12\uff17.0.0.1", "loopback"),
        ("127\u30020\u30020\u30021", "loopback"),
        ("\u2460\u2461\u2466.0.0.1", "loopback"),
        ("169.254.169.254", "metadata service"),
        ("10.0.0.1", "private"),
        ("0.0.0.0", "unspecified"),
        ("[::1]", "loopback"),
        ("[::]", "unspecified"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("[::ffff:a9fe:a9fe]", "metadata service"),
        ("[64:ff9b::10.0.0.1]", "private"),
        ("[fd00::1]", "private"),
    ],
)
def test_a_host_written_as_a_refused_address_is_named_by_its_class(host: str, reason: str) -> None:
    assert problems(f"http://{host}:8080/x") == {"url": f"address not allowed ({reason})"}


@pytest.mark.parametrize(
    "url", ["http://example.com:22/", "https://8.8.8.8:22/", "http://[2606:4700::1]:22/"]
)
def test_a_port_that_the_operator_does_not_allow_is_refused_by_its_number(url: str) -> None:
    policy = AddressPolicy(allow_ports=(range(80, 81), range(443, 444)))
    with pytest.raises(ValidationError) as caught:
        check_registration(url, {}, policy)
    assert [field.message for field in caught.value.fields] == ["address not allowed (port 22)"]
    assert check_registration(url.replace(":22", ""), {}, policy)


def test_a_refused_address_is_left_to_the_dialer_when_it_was_registered_before() -> None:
    assert parse_callback("http://127.0.0.1:81/", {}).host == "127.0.0.1"


def test_allowed_private_addresses_can_be_registered() -> None:
    target = check_registration("http://[::1]:81/", {}, AddressPolicy(allow_private=True))
    assert (target.host, target.host_header) == ("::1", "[::1]:81")


def test_headers_keep_their_spelling_order_and_inner_spaces() -> None:
    headers = {"X-b": "two  words", "Authorization": "Bearer a.b==", "x-A": "", "X-Pad": " padded "}
    assert parse_callback("http://h/", headers).headers == (
        ("X-b", "two  words"),
        ("Authorization", "Bearer a.b=="),
        ("x-A", ""),
        ("X-Pad", "padded"),
    )


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "HOST",
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "TE",
        "Trailer",
        "Expect",
        "Keep-Alive",
        "Proxy-Authorization",
        "proxy-connection",
        "Proxy-",
    ],
)
def test_headers_that_are_ours_are_refused(name: str) -> None:
    assert problems("http://example.com/", {name: "x"}) == {
        f"headers.{name}": "is set by the dispatcher and cannot be given"
    }


@pytest.mark.parametrize("name", ["webhook-id", "Webhook-ID"])
def test_a_header_is_reserved_only_where_the_dispatcher_sets_it(name: str) -> None:
    assert parse_callback("http://h/", {name: "x"})
    with pytest.raises(ValidationError) as caught:
        check_registration("http://example.com/", {name: "x"}, STRICT, reserved=("webhook-id",))
    assert [field.name for field in caught.value.fields] == [f"headers.{name}"]


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "X Y", "X:", ":path", "(X)", "X/Y", "X\u00e4", '"X"', "Host "),
        *("X\r\nY", "X\n", "X\x00", "X\t"),
        "\u212aeep-alive",  # with a Kelvin sign, which lower() turns into a k
    ],
)
def test_header_names_are_tokens(name: str) -> None:
    assert problems("http://example.com/", {name: "x"}) == {f"headers.{name}": "is not a header name"}


@pytest.mark.parametrize(
    "value",
    ["a\r\nX: y", "a\nb", "a\rb", "a\x00b", "\x7f", "\t", "a\tb", "\n", "a\n", "\u00e4", "\u2028", "\x85"],
)
def test_header_values_have_no_control_characters_and_are_never_repeated(value: str) -> None:
    found = problems("http://example.com/", {"X-Name": f"secret{value}"})
    assert set(found) == {"headers.X-Name"}
    assert "secret" not in found["headers.X-Name"]


@pytest.mark.parametrize(("first", "second"), [("X-Name", "x-name"), ("x-name", "X-NAME")])
def test_the_same_header_in_another_case_is_refused(first: str, second: str) -> None:
    found = problems("http://example.com/", {first: "1", second: "2"})
    assert found == {f"headers.{second}": "is given twice"}


def test_user_information_is_refused_with_what_to_do_instead() -> None:
    assert problems("http://user:secret@example.com/") == {
        "url": "has user information (...@); use a header instead"
    }


def test_every_wrong_field_is_named_at_once() -> None:
    found = problems("ftp://example.com/", {"Host": "x", "X": "\n", "Fine": "1"})
    assert set(found) == {"url", "headers.Host", "headers.X"}


def test_url_names_and_values_share_400_characters() -> None:
    url, name = "http://example.com/", "X-Name"
    room = limits.CALLBACK_CHARS_MAX - len(url) - len(name)
    assert check_registration(url, {name: "v" * room}, STRICT)
    assert "401 characters" in problems(url, {name: "v" * (room + 1)})["url"]
    assert "401 characters" in problems("http://example.com/" + "p" * 382)["url"]


def test_neither_header_values_nor_the_path_show_in_a_repr() -> None:
    target = parse_callback("http://example.com:81/token-in-path", {"Authorization": "Bearer secret"})
    assert repr(target) == "<CallbackTarget http://example.com:81>"
    assert "secret" not in f"{target} {[target]}"


printable = st.text(st.characters(min_codepoint=1, max_codepoint=0x250), max_size=20)


@given(st.text(max_size=30), st.dictionaries(printable, printable, max_size=4))
def test_whatever_is_accepted_makes_one_request_head_without_injection(
    tail: str, headers: dict[str, str]
) -> None:
    try:
        target = parse_callback(f"http://example.com/{tail}", headers)
    except ValidationError:
        return
    request = h11.Request(
        method="PUT", target=target.target, headers=[("Host", target.host_header), *target.headers]
    )
    head = h11.Connection(h11.CLIENT).send(request)
    assert head is not None
    assert head.count(b"\r\n") == len(target.headers) + 3
    assert head.replace(b"\r\n", b"").isascii()
    assert b"\n" not in head.replace(b"\r\n", b"")


@given(st.text(max_size=40))
def test_any_text_as_host_is_read_or_refused_and_read_the_same_again(host: str) -> None:
    try:
        target = check_registration(f"http://{host}/", {}, STRICT)
    except ValidationError:
        return
    assert check_registration(f"http://{target.host_header}/", {}, STRICT).host == target.host
