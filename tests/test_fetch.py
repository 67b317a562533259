"""Files over HTTP from servers that cut, lie and mistake. Oracle: the bytes that the test put there, or no file."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from web import chunked, good, page, redirect, serve, stalling, status, whole

from ssdedu import fetch as module
from ssdedu import transfer
from ssdedu.fetch import FetchError, NoMirrorError, fetch, sha256_of, verify
from ssdedu.transfer import part_path

CONTENT = bytes(i * i % 251 for i in range(10_000))
OTHER = bytes(i * 7 % 251 for i in range(10_000))


def digest_of(content):
    return hashlib.sha256(content).hexdigest()


SHA = digest_of(CONTENT)


@pytest.fixture(scope="module")
def web():
    with serve() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch, web):
    monkeypatch.setattr(module, "_PAUSES", (0, 0, 0))
    web.asked.clear()
    web.contents.clear()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.bin"


SIZE = 10_000


def get(path, *mirrors, size=SIZE, sha256=SHA, **more):
    return fetch(path, mirrors, size, sha256, say=lambda _: None, **more)


def leftovers(path):
    return sorted(p.name for p in path.parent.iterdir() if p != path)


def came(path):
    """Whole, under its name, and nothing beside it."""
    return path.read_bytes() == CONTENT and leftovers(path) == []


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("sha256", [SHA, SHA[:8], ""])
@pytest.mark.parametrize(
    "answer", [whole, chunked(), good(length=False), good(tag='"a"'), good(ranges=False)]
)
def test_a_file_comes(web, path, answer, size, sha256):
    assert get(path, web.put("f", CONTENT, answer), size=size, sha256=sha256) == SHA
    assert came(path)
    assert web.ranges() == [None]


CUTS = {
    "length": good(cut=4000),
    "tag": good(cut=4000, tag='"a"'),
    "chunked": chunked(cut=4000),
}


@pytest.mark.parametrize("first", CUTS)
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_cut_transfer_goes_on_where_it_ended(web, path, first, size):
    rest = good(tag='"a"') if first == "tag" else whole
    assert get(path, web.put("f", CONTENT, CUTS[first], rest), size=size) == SHA
    assert came(path)
    assert web.ranges() == [None, "bytes=4000-"]
    assert web.asked[1][1].get("If-Range") == ('"a"' if first == "tag" else None)


def test_a_later_run_goes_on_too_and_from_another_mirror(web, path):
    """The tag belongs to the address that gave it: it is sent there and nowhere else."""
    first = web.put("f", CONTENT, good(cut=3000, tag='"a"'), status(404))
    with pytest.raises(NoMirrorError):
        get(path, first)
    assert part_path(path).read_bytes() == CONTENT[:3000]
    assert not path.exists()
    with pytest.raises(NoMirrorError):
        get(path, web.put("g", CONTENT, good(cut=3000), status(404)))
    web.put("f", CONTENT, good(tag='"a"'))
    get(path, first)
    assert came(path)
    assert web.ranges() == [None, "bytes=3000-", "bytes=3000-", "bytes=6000-", "bytes=6000-"]
    assert [headers.get("If-Range") for _, headers in web.asked] == [None, '"a"', None, None, None]


def test_a_server_without_ranges_is_compared_with_what_has_come(web, path):
    """200 to a request for a range: the file from its first byte; nothing is appended twice."""
    get(path, web.put("f", CONTENT, good(cut=4000), good(ranges=False, cut=2000), good(ranges=False)))
    assert came(path)
    assert web.ranges() == [None, "bytes=4000-", "bytes=4000-"]


def test_many_cuts_are_one_call_as_long_as_each_brings_some(web, path):
    get(path, web.put("f", CONTENT, good(cut=500)))
    assert came(path)
    assert web.ranges()[1:] == [f"bytes={n}-" for n in range(500, SIZE, 500)]


def test_the_part_is_always_the_beginning_of_what_came_last(web, path):
    """Other bytes were there: what follows the first difference goes, though the transfer is cut."""
    part_path(path).write_bytes(CONTENT[:1000] + OTHER[1000:4000])
    with pytest.raises(NoMirrorError):
        get(path, web.put("f", CONTENT, good(ranges=False, cut=2000), status(404)))
    assert part_path(path).read_bytes() == CONTENT[:2000]


def test_what_was_compared_to_its_end_is_not_fetched_twice(web, path):
    part_path(path).write_bytes(OTHER[:4000])
    with pytest.raises(NoMirrorError, match="another file"):
        get(path, web.put("f", OTHER, good(ranges=False)))
    assert web.ranges() == ["bytes=4000-"]


def test_more_than_the_server_has_is_cut_off(web, path):
    part_path(path).write_bytes(CONTENT + b"more")
    get(path, web.put("f", CONTENT, good(ranges=False)), size=None)
    assert came(path)
    assert web.ranges() == ["bytes=10004-"]


def test_a_range_of_an_unknown_total_ends_where_its_length_says(web, path):
    part_path(path).write_bytes(CONTENT[:4000])
    get(path, web.put("f", CONTENT, good(total="*", cut=2000), good(total="*")), size=None)
    assert came(path)
    assert web.ranges() == ["bytes=4000-", "bytes=6000-"]


def test_changed_content_is_noticed_by_its_tag(web, path):
    """If-Range: the server sends all of the new content, without a checksum to notice it by."""
    url = web.put("f", OTHER, good(cut=4000, tag='"old"'), status(404))
    with pytest.raises(NoMirrorError):
        get(path, url, sha256="")
    web.put("f", CONTENT, good(tag='"new"'))
    get(path, url, sha256="")
    assert came(path)
    assert web.asked[-1][1]["If-Range"] == '"old"'


@pytest.mark.parametrize("tag", [None, 'W/"a"'])
def test_without_checksum_or_strong_tag_nothing_is_pieced_together(web, path, tag):
    """Two contents of the same length: nothing but a checksum could tell a mixture of them."""
    url = web.put("f", OTHER, good(cut=4000, tag=tag), status(404))
    with pytest.raises(NoMirrorError):
        get(path, url, sha256="")
    web.put("f", CONTENT, good(tag=tag))
    get(path, url, sha256="")
    assert came(path)
    assert web.ranges() == [None, None, None]


def test_a_part_of_another_file_is_thrown_away_once(web, path):
    part_path(path).write_bytes(OTHER[:4000])
    said = []
    fetch(path, [web.put("f", CONTENT)], len(CONTENT), SHA, say=said.append)
    assert came(path)
    assert web.ranges() == ["bytes=4000-", None]
    assert len(said) == 1
    assert "of another file" in said[0]


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 1, 50_000])
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_part_that_is_too_long_or_whole_but_wrong(web, path, length, size):
    part_path(path).write_bytes((OTHER * 6)[:length])
    get(path, web.put("f", CONTENT), size=size)
    assert came(path)
    assert web.ranges() == ([None] if size else [f"bytes={length}-", None])


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_part_that_is_whole_takes_its_name(web, path, size):
    """Killed between the last byte and the name; without a known size 416 says that it is whole."""
    part_path(path).write_bytes(CONTENT)
    get(path, web.put("f", CONTENT), size=size)
    assert came(path)
    assert web.ranges() == ([] if size else ["bytes=10000-"])


def test_416_with_another_length_begins_anew(web, path):
    part_path(path).write_bytes(CONTENT[:4000])
    wrong = status(416, Content_Range="bytes */3000")
    get(path, web.put("f", CONTENT, wrong, whole))
    assert came(path)
    assert web.ranges() == ["bytes=4000-", None]


def test_416_does_not_pass_a_part_that_nothing_else_could_tell(web, path):
    """No checksum, no length, the same tag: the part has more bytes than the server says there are."""
    wrong = status(416, Content_Range="bytes */3000")
    url = web.put("f", CONTENT, good(cut=4000, tag='"a"'), wrong, good(tag='"a"'))
    get(path, url, size=None, sha256="")
    assert came(path)
    assert web.ranges() == [None, "bytes=4000-", None]


REFUSALS = {
    "answers 404": status(404),
    "answers 403": status(403),
    "answers 503": status(503),
    "answers 500": status(500),
    "answers 204": status(204),
    "a web page": page(),
    "a web page instead": page("application/octet-stream"),
    "answers 302": redirect("/f"),
    "encoding": lambda request, content: status(200, Content_Encoding="gzip")(request, content),
    "offers 10,005 bytes instead of 10,000": good(announce=5),
    "offers 9,995 bytes instead of 10,000": good(announce=-5),
    "sends more than 10,000 bytes": good(length=False, more=b"x"),
    "cut the transfer after 9,000 of 10,000": good(length=False, cut=9000, ranges=False),
    "broke off": chunked(cut=50, ranges=False),
    "cut the transfer after 0": good(cut=0),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_each_fault_has_its_reason_and_the_next_mirror_its_turn(web, path, reason):
    """Length and checksum known: whatever a server does, the next one gives the file."""
    bad = web.put("f", CONTENT, REFUSALS[reason])
    size = None if reason == "a web page instead" else len(CONTENT)
    with pytest.raises(NoMirrorError, match=reason):
        get(path, bad, size=size)
    assert not path.exists()
    get(path, bad, web.put("g", CONTENT))
    assert came(path)


def test_ranges_that_were_not_asked_for(web, path):
    """A later range leaves a hole and is refused; an earlier one is compared; a lying total is refused."""
    for answer, reason in (
        (good(first=5000), "other bytes"),
        (good(total=99), "offers 99 bytes"),
        (status(206), "other bytes"),
        (status(206, Content_Range="bytes x"), "other bytes"),
    ):
        part_path(path).write_bytes(CONTENT[:4000])
        with pytest.raises(NoMirrorError, match=reason):
            get(path, web.put("f", CONTENT, answer))
    get(path, web.put("f", CONTENT, good(first=3000)))
    assert came(path)
    part_path(path).write_bytes(CONTENT[:4000])
    get(path, web.put("f", CONTENT, good(total="*")), size=None)
    assert came(path)


def test_a_wrong_file_never_takes_the_name(web, path):
    wrong = web.put("wrong", OTHER)
    with pytest.raises(NoMirrorError, match=f"sends another file: 10,000 bytes, sha256 {digest_of(OTHER)}"):
        get(path, wrong)
    assert leftovers(path) == []
    path.write_bytes(b"old")
    with pytest.raises(NoMirrorError):
        get(path, wrong)
    assert path.read_bytes() == b"old"
    get(path, wrong, web.put("right", CONTENT))
    assert came(path)


def test_a_mixture_of_two_mirrors_is_noticed(web, path):
    """The first is cut for good, the second goes on with other bytes, is found out, and the third begins anew."""
    cut = web.put("a", CONTENT, good(cut=6000), status(404))
    get(path, cut, web.put("b", OTHER), web.put("c", CONTENT))
    assert came(path)
    assert web.ranges("b") == ["bytes=6000-", None]
    assert web.ranges("c") == [None]


def test_a_lying_length_without_a_known_size(web, path):
    """Too long: 416 tells the truth when asked for the rest. Too short: the checksum does not match, next mirror."""
    get(path, web.put("f", CONTENT, good(announce=500)), size=None)
    assert came(path)
    assert web.ranges() == [None, "bytes=10000-"]
    with pytest.raises(NoMirrorError, match="another file: 9,500 bytes"):
        get(path.with_name("other"), web.put("f", CONTENT, good(announce=-500)), size=None)


def test_an_endless_answer_is_cut_off(web, path, monkeypatch):
    monkeypatch.setattr(transfer, "_LIMIT", 5000)
    with pytest.raises(NoMirrorError, match="sends more than 5,000 bytes"):
        get(path, web.put("f", CONTENT, good(length=False)), size=None)


def test_an_empty_answer_is_no_file(web, path):
    with pytest.raises(NoMirrorError, match="empty file"):
        get(path, web.put("f", b""), size=None, sha256="")


def test_redirects_are_followed_with_the_range(web, path):
    part_path(path).write_bytes(CONTENT[:4000])
    there = web.put("there", CONTENT)
    get(path, web.put("f", b"", redirect(there)))
    assert came(path)
    assert web.ranges() == ["bytes=4000-"] * 2


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_stay_in_the_web(web, path, target):
    with pytest.raises(NoMirrorError, match=r"not (safe|allowed)"):
        get(path, web.put("f", b"", redirect(target)))


def test_redirects_do_not_lose_the_encryption():
    request = transfer.urllib.request.Request("https://a.example/x")
    with pytest.raises(transfer.RefusedError, match="not safe"):
        transfer._Redirects().redirect_request(request, None, 302, "", {}, "http://a.example/x")
    upgrade = transfer.urllib.request.Request("http://a.example/x")
    followed = transfer._Redirects().redirect_request(upgrade, None, 302, "", {}, "https://a.example/x")
    assert followed.full_url == "https://a.example/x"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://a.example/x", "/etc/hostname", "http://", ""])
def test_addresses_are_of_the_web(path, url):
    with pytest.raises(ValueError, match="http://"):
        get(path, url)


def test_a_silent_server_is_left(web, path):
    gate = threading.Event()
    slow = web.put("f", CONTENT, stalling(2000, gate), status(404))
    get(path, slow, web.put("g", CONTENT), timeout=0.2)
    gate.set()
    assert came(path)
    assert web.ranges("g") == ["bytes=2000-"]


def test_proxies_are_those_of_the_environment(web, path, monkeypatch):
    """A proxy is asked with the whole address."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", web.address)
    web.put("http://nowhere.invalid/f", CONTENT)
    get(path, "http://nowhere.invalid/f")
    assert came(path)
    assert web.asked[0][0] == "http://nowhere.invalid/f"


def test_offline_names_file_mirrors_and_remedy(path):
    """Port 9 of this machine, and a name that there is not."""
    mirrors = ["http://127.0.0.1:9/f", "http://nowhere.invalid/f"]
    with pytest.raises(NoMirrorError) as caught:
        get(path, *mirrors, sha256=SHA[:8])
    text = str(caught.value)
    for words in ("file.bin", "offline?", *mirrors, "by hand", "10,000 bytes", f"{SHA[:8]}...", str(path)):
        assert words in text
    assert text.count("cannot be reached") == 2


def test_not_all_failures_mean_offline(web, path):
    with pytest.raises(NoMirrorError) as caught:
        get(path, "http://127.0.0.1:9/f", web.put("f", CONTENT, status(404)))
    assert "offline?" not in str(caught.value)


def test_a_full_disk_keeps_what_has_come(web, path, monkeypatch):
    url, put, room = web.put("f", CONTENT, chunked(step=500)), transfer._put, [4]

    def put_until_full(file, data):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(file, data)

    monkeypatch.setattr(transfer, "_put", put_until_full)
    with pytest.raises(FetchError, match=r"disk is full: [\d,]+ bytes are free, [\d,]+ more are needed"):
        get(path, url)
    kept = part_path(path).read_bytes()
    assert 0 < len(kept) < len(CONTENT)
    assert kept == CONTENT[: len(kept)]
    monkeypatch.setattr(transfer, "_put", put)
    get(path, url)
    assert came(path)
    assert web.ranges()[-1] == f"bytes={len(kept)}-"


def test_too_little_room_is_seen_before_the_body(web, path, monkeypatch):
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9999}))
    with pytest.raises(FetchError, match="disk is full: 9,999 bytes are free, 10,000 more are needed"):
        get(path, web.put("f", CONTENT))
    assert not part_path(path).exists()


def test_a_killed_process_is_gone_on_with(web, path):
    """kill -9 in the middle of a body."""
    gate = threading.Event()
    url = web.put("f", CONTENT, stalling(7000, gate), whole)
    code = f"from ssdedu.fetch import fetch; fetch({str(path)!r}, [{url!r}], {len(CONTENT)}, {SHA!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not (part_path(path).exists() and part_path(path).stat().st_size >= 7000):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    gate.set()
    assert not path.exists()
    get(path, url)
    assert came(path)
    assert web.ranges() == [None, "bytes=7000-"]


def test_the_bytes_are_on_the_disk_before_the_name(web, path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, o=original: (calls.append((n, a[-1])), o(*a))[1])
    get(path, web.put("f", CONTENT))
    assert [name for name, _ in calls][-2:] == ["fsync", "replace"]
    assert calls[-1][1] == path


def test_verify_names_both_identities(path):
    path.write_bytes(CONTENT)
    assert (
        verify(path, len(CONTENT), SHA)
        == verify(path)
        == verify(path, None, SHA[:8])
        == SHA
        == sha256_of(path)
    )
    for size, sha256 in ((9999, SHA), (None, digest_of(OTHER)), (len(CONTENT), "00000000")):
        with pytest.raises(FetchError, match=r"another file.*10,000 bytes.*move it away.*file\.bin\.part"):
            verify(path, size, sha256)
    assert path.read_bytes() == CONTENT


def test_needs_nothing_heavy():
    code = (
        "import sys, ssdedu.download; assert not {'torch', 'cv2', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def contents(most):
    """Bytes that no page begins with."""
    return st.binary(max_size=most - 1).map(lambda rest: b"\x80" + rest)


def answers(lengths):
    """An answer that is cut, by any kind of server."""
    kinds = (
        lambda n: good(cut=n),
        lambda n: good(cut=n, tag='"a"'),
        lambda n: good(cut=n, ranges=False),
        lambda n: chunked(cut=n, step=7),
        lambda n: chunked(cut=n, ranges=False),
        lambda n: status(503),
        lambda n: status(416),
        lambda n: good(first=n, cut=n),
    )
    return st.builds(lambda kind, n: kind(n), st.sampled_from(kinds), lengths)


def until_it_comes(path, url, content, size, sha256, runs):
    for _ in range(runs):
        try:
            return fetch(path, [url], size, sha256, say=lambda _: None)
        except NoMirrorError:
            part = part_path(path)
            assert not path.exists()
            assert not part.exists() or content.startswith(part.read_bytes())
    raise AssertionError("it never came")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=contents(400),
    script=st.lists(answers(st.integers(0, 400)), max_size=12),
    size=st.booleans(),
    digits=st.sampled_from([64, 8]),
)
@example(CONTENT[:300], [good(cut=n) for n in (0, 1, 299, 0, 0, 5)], True, 64)
def test_cut_anywhere_any_number_of_times_the_bytes_are_the_same(web, content, script, size, digits):
    sha256 = digest_of(content)[:digits]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f")
        url = web.put("f", content, *script, whole)
        until_it_comes(path, url, content, len(content) if size else None, sha256, len(script) + 2)
        assert path.read_bytes() == content
        assert os.listdir(folder) == ["f"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=contents(200),
    others=st.lists(
        st.tuples(st.binary(max_size=200), answers(st.integers(0, 200)) | st.just(whole)), max_size=6
    ),
    began=st.binary(max_size=250),
)
def test_among_any_wrong_mirrors_the_file_is_right(web, content, others, began):
    """Each mirror has other bytes, mostly; a part of anything lies there; one good mirror comes last."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f")
        part_path(path).write_bytes(began)
        mirrors = [web.put(f"m{i}", other, answer) for i, (other, answer) in enumerate(others)]
        mirrors.append(web.put("right", content))
        fetch(path, mirrors, len(content), digest_of(content), say=lambda _: None)
        assert path.read_bytes() == content
        assert os.listdir(folder) == ["f"]
