"""Pulling files from servers that break off, stall, lie, refuse, redirect and ignore what they are asked."""

import contextlib
import hashlib
import http.server
import json
import re
import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from undiffuse.app.events import Done, Note, Progress, Saved
from undiffuse.app.priors import open_prior
from undiffuse.app.pull import Patience, Source, at, pull, pulled, remembered, shelf, source_of
from undiffuse.app.pull import transfer as transfers
from undiffuse.checkpoints.known import known
from undiffuse.config import validated
from undiffuse.registry import NETWORKS

DATA = b"PK\x03\x04" + np.random.default_rng(0).bytes(300_000)
HASTY = Patience(stall=0.3, tries=4, wait=0.01)


@dataclass
class Server:
    """What it does to the n-th request is the n-th word of its script; the last one stays."""

    script: list[str]
    data: bytes = DATA
    etag: str | None = '"one"'
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def word(self) -> str:
        return self.script[min(len(self.asked), len(self.script)) - 1]


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Start a server with a script; gives it with its url."""
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "shelf"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfers, "CHUNK", 10_000)
    running = []

    def start(*script: str, **facts) -> Server:
        server = Server(list(script), **facts)
        http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(server))
        http_server.daemon_threads = True
        threading.Thread(
            target=http_server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        running.append(http_server)
        server.url = f"http://127.0.0.1:{http_server.server_port}/net.pt"
        return server

    yield start
    for http_server in running:
        http_server.shutdown()
        http_server.server_close()


def handler(server: Server):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):  # noqa: N802
            server.asked.append(dict(self.headers))
            word, asked = server.word(), self.headers.get("Range")
            if re.fullmatch(r"\d{3}", word):
                self.send_response(int(word))
                self.send_header("Retry-After", "0")
                self.end_headers()
                return
            if word.startswith("to "):
                self.send_response(302)
                self.send_header("Location", word[3:])
                self.end_headers()
                return
            start = 0
            same = self.headers.get("If-Range") in (None, server.etag)
            if asked and word != "whole" and same:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(server.data):
                    self.send_error(416)
                    return
                self.send_response(206)
                total = len(server.data)
                self.send_header("Content-Range", f"bytes {start + (word == 'shifted')}-{total - 1}/{total}")
            else:
                self.send_response(200)
            body = server.data[start:]
            claimed = len(body) + (1000 if word == "claims more" else 0)
            if word != "no length":
                self.send_header("Content-Length", str(claimed))
            if server.etag:
                self.send_header("ETag", server.etag)
            self.end_headers()
            with contextlib.suppress(OSError):  # whoever asked may be gone
                self.send(word, body)

        def send(self, word: str, body: bytes):
            if word == "silent":
                time.sleep(1)
            elif word == "breaks":
                self.wfile.write(body[: len(body) // 2])
            elif word == "stalls":
                self.wfile.write(body[:20_000])
                self.wfile.flush()
                time.sleep(1)
            else:
                self.wfile.write(body)
            self.close_connection = True

    return Handler


def source(server: Server, *others: Server, **facts) -> Source:
    return Source("net", "net.pt", (server.url, *(other.url for other in others)), **facts)


def sha(data: bytes = DATA) -> str:
    return hashlib.sha256(data).hexdigest()


def run(wanted: Source, **given):
    """(result, events)"""
    events = list(pull(wanted, patience=given.pop("patience", HASTY), **given))
    assert isinstance(events[-1], Done)
    return events[-1].result, events


def test_a_file_that_comes_at_once(serve, tmp_path):
    server = serve("fine")
    result, events = run(source(server, sha256=sha(), bytes=len(DATA)))
    path = tmp_path / "shelf" / "net" / "net.pt"
    assert result.path == path and result.fresh and path.read_bytes() == DATA
    assert result.record.checked == "sha256" and result.record.bytes == len(DATA)
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[0].done == 0 and max(event.done for event in progress) > 10
    assert Saved(path) in events
    assert {at.name for at in path.parent.iterdir()} == {"net.pt", "net.pt.json"}  # no half files
    again, _ = run(source(server, sha256=sha()))
    assert not again.fresh and len(server.asked) == 1  # nothing is asked for twice


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        (["breaks", "fine"], 2),
        (["breaks", "breaks", "breaks", "fine"], 4),
        (["stalls", "fine"], 2),
        (["500", "fine"], 2),
        (["503", "429", "fine"], 3),
        (["breaks", "whole"], 2),  # ignores Range: begun anew
        (["breaks", "shifted", "fine"], 3),  # continues elsewhere: begun anew
        (["no length"], 1),
    ],
)
def test_a_server_that_gives_it_in_the_end(serve, script, requests):
    server = serve(*script)
    result, _ = run(source(server, sha256=sha(), bytes=len(DATA)))
    assert result.path.read_bytes() == DATA and len(server.asked) == requests


def test_a_server_that_claims_more_than_it_has(serve):
    """Once; then there is nothing after what came (416), and the whole is asked for again."""
    server = serve("claims more", "fine")
    result, _ = run(source(server, sha256=sha()))
    assert result.path.read_bytes() == DATA and len(server.asked) == 3
    with pytest.raises(
        ValueError, match="ended after 300,004 of 301,004 bytes, nothing follows what came; 4 tries in a row"
    ):
        run(replace(source(serve("claims more")), name="liar"))


def test_what_is_asked_for_when_it_broke_off(serve):
    server = serve("breaks", "fine")
    run(source(server, sha256=sha()))
    assert "Range" not in server.asked[0]
    assert server.asked[1]["Range"] == f"bytes={len(DATA) // 2}-"
    assert server.asked[1]["If-Range"] == '"one"'


def test_a_file_that_changed_while_it_broke_off(serve):
    """With another ETag the server answers If-Range with the whole file."""
    server = serve("breaks", "fine")
    wanted, events = source(server), []
    pulling = pull(wanted, patience=replace(HASTY, wait=0.2))
    for event in pulling:
        events.append(event)
        if isinstance(event, Note) and "trying again" in event.text:
            server.data, server.etag = DATA[::-1].replace(DATA[:1], b"P"), '"two"'
            server.data = DATA[:4] + server.data
    assert events[-1].result.path.read_bytes() == server.data


def test_half_a_file_of_a_killed_run_is_continued(serve):
    server = serve("fine")
    wanted = source(server, sha256=sha())
    pulling = pull(wanted, patience=HASTY)
    while not (isinstance(event := next(pulling), Progress) and event.done > 10):
        pass
    pulling.close()  # as an interrupt does
    assert (at(wanted).parent / "net.pt.part").exists() and not at(wanted).exists()
    run(wanted)
    assert int(re.sub(r"\D", "", server.asked[1]["Range"])) >= 100_000
    assert at(wanted).read_bytes() == DATA


def test_half_a_file_without_checksum_or_validator_is_begun_anew(serve):
    server = serve("breaks", "fine", etag=None)
    result, _ = run(source(server))
    assert "Range" not in server.asked[1] and result.path.read_bytes() == DATA


def test_half_a_file_of_other_bytes_is_begun_anew(serve):
    """A validator that says nothing (a server that gives one ETag to all) and a checksum that does."""
    server = serve("fine")
    wanted = source(server, sha256=sha())
    at(wanted).parent.mkdir(parents=True)
    (at(wanted).parent / "net.pt.part").write_bytes(b"\0" * 1000)
    _, events = run(wanted)
    assert any(isinstance(e, Note) and "begun anew" in e.text for e in events)
    assert at(wanted).read_bytes() == DATA and len(server.asked) == 2


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("403", "HTTP 403, access denied"),
        ("404", "HTTP 404, no such file"),
        ("410", "HTTP 410, gone for good"),
        ("500", "HTTP 500, Internal Server Error; 4 tries in a row"),
        ("silent", "no byte for 0.1 s; 4 tries in a row"),
        ("to ftp://127.0.0.1/net.pt", "leads to ftp"),
        ("to file:///etc/passwd", "to no http(s) address"),
    ],
)
def test_a_server_that_does_not(serve, word, said):
    server = serve(word)
    patience = replace(HASTY, stall=0.1)
    wanted = source(server, sha256=sha(), note="dead since 2023")
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        run(wanted, patience=patience)
    for part in (server.url, "dead since 2023", "--prior FILE"):
        assert part in str(error.value)
    assert not at(wanted).exists() and remembered(at(wanted)) is None


def test_a_mirror_is_asked_next(serve):
    first, second = serve("403"), serve("fine")
    result, events = run(source(first, second, sha256=sha()))
    assert result.record.url == second.url and len(first.asked) == 1  # no use in trying again
    assert any(isinstance(e, Note) and "HTTP 403" in e.text for e in events)


def test_a_mirror_with_the_wrong_bytes(serve):
    first, second = serve("fine", data=DATA[::-1]), serve("fine")
    wanted = source(first, second, sha256=sha())
    result, events = run(wanted)
    assert result.record.url == second.url and result.path.read_bytes() == DATA
    assert any(isinstance(e, Note) and sha(DATA[::-1]) in e.text for e in events)


def test_half_a_file_is_not_continued_from_a_mirror_unless_a_checksum_tells(serve):
    first, second = serve("breaks", "404"), serve("fine")
    run(source(first, second))
    assert "Range" not in second.asked[0]


def test_wrong_bytes_are_not_kept(serve):
    server = serve("fine", data=DATA[::-1])
    wanted = source(server, md5=hashlib.md5(DATA).hexdigest())
    with pytest.raises(ValueError, match=f"md5 is .*, expected {wanted.md5}, as the publisher says"):
        run(wanted)
    assert list(at(wanted).parent.iterdir()) == []


def test_another_length_is_told_before_it_is_read(serve):
    server = serve("fine")
    with pytest.raises(ValueError, match=r"300,004 bytes, expected 5"):
        run(source(server, bytes=5))


def test_a_server_that_never_ends(serve, monkeypatch):
    monkeypatch.setattr(transfers, "LARGEST", 1_000_000)
    with pytest.raises(ValueError, match="sends more than 1,000,000 bytes"):
        run(source(serve("no length", data=DATA * 4)))


def test_redirects(serve):
    last = serve("fine")
    first = serve(f"to {last.url}")
    assert run(source(first, sha256=sha()))[0].path.read_bytes() == DATA
    circle = serve("fine")
    circle.script = [f"to {circle.url}"]
    with pytest.raises(ValueError, match="HTTP 302, leads in circles"):
        run(Source("round", "net.pt", (circle.url,)))
    assert len(circle.asked) <= 6


def test_from_https_to_http_is_not_followed():
    redirects = transfers._Redirects()
    request = transfers.urllib.request.Request("https://a.example/net.pt")
    with pytest.raises(transfers.Refused, match="leads to http"):
        redirects.redirect_request(request, None, 302, "", {}, "http://a.example/net.pt")


def test_other_schemes_are_refused(tmp_path):
    (tmp_path / "net.pt").write_bytes(DATA)
    with pytest.raises(ValueError, match="no http"):
        run(Source("net", "net.pt", (f"file://{tmp_path}/net.pt",)), folder=tmp_path / "out")


def test_no_server(serve):
    server = serve("fine")
    wanted = replace(source(server), urls=("http://127.0.0.1:9/net.pt",))
    with pytest.raises(ValueError, match="no connection"):
        run(wanted)


def test_without_a_checksum_what_came_is_remembered(serve):
    server = serve("fine")
    wanted = source(server)
    result, events = run(wanted)
    assert any(
        isinstance(e, Note) and f"nobody published its checksum; its sha256 is {sha()}" in e.text
        for e in events
    )
    record = json.loads((result.path.parent / "net.pt.json").read_text())
    assert record["sha256"] == sha() and record["checked"] is None and record["url"] == server.url
    result.path.unlink()
    server.data = DATA + b"!"
    with pytest.raises(ValueError, match=f"{sha()} came on"):
        run(wanted)
    server.data = DATA
    run(wanted)
    result.path.write_bytes(DATA[:-1])
    with pytest.raises(ValueError, match="is there, but its sha256"):
        run(wanted)


def test_a_page_is_no_file_of_weights(serve):
    server = serve("fine", data=b"<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(ValueError, match="no file of weights"):
        run(source(server))


@pytest.mark.parametrize(
    ("data", "facts", "said"),
    [
        (
            b"<html>please log in</html>",
            {},
            "is there, but it is no file of weights: it begins with b'<html>",
        ),
        (DATA[:-1], {"bytes": len(DATA)}, "is there, but it has 300,003 bytes, expected 300,004; remove it"),
        (None, {}, "is no file; move it away"),
    ],
)
def test_what_lies_there_already_is_checked_as_what_comes(serve, data, facts, said):
    wanted = source(serve("fine"), **facts)
    path = at(wanted)
    path.parent.mkdir(parents=True)
    if data is None:
        path.mkdir()
    else:
        path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(said)):
        run(wanted)
    assert list(path.parent.iterdir()) == [path]


def test_of_a_file_that_was_put_there_no_address_is_noted(serve):
    wanted = source(serve("fine"))
    path = at(wanted)
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    result, _ = run(wanted)
    assert not result.fresh and result.record.url == "" and remembered(path) == result.record


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("text", ["{", "[]", '{"name": "net"}', "SHORT"])
def test_a_damaged_record_is_refused(serve, gone, text):
    """It is what the next file is compared with: without it any file would do."""
    server = serve("fine")
    wanted = source(server)
    path = run(wanted)[0].path
    record = path.with_name("net.pt.json")
    text = record.read_text().replace(sha(), sha()[:-1]) if text == "SHORT" else text
    record.write_text(text)
    if gone:
        path.unlink()
    with pytest.raises(ValueError, match=re.escape(f"'{record}', the record")) as error:
        run(wanted)
    assert "\n" not in str(error.value) and record.read_text() == text and len(server.asked) == 1


def test_no_room(serve, monkeypatch):
    monkeypatch.setattr(transfers.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100_000}))
    with pytest.raises(ValueError, match="300,004 bytes in .*, which has 100,000; make room"):
        run(source(serve("fine")))


def test_another_folder(serve, tmp_path):
    result, _ = run(source(serve("fine")), folder=tmp_path / "exp")
    assert result.path == tmp_path / "exp" / "net.pt"


def test_names_stay_in_their_folder():
    for name, file in (("..", "a.pt"), ("a", "../b.pt"), ("a/b", "c.pt"), ("a", "")):
        with pytest.raises(ValueError, match="expected names"):
            Source(name, file, ())


def test_the_shelf(monkeypatch, tmp_path):
    monkeypatch.delenv("UNDIFFUSE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert shelf() == tmp_path / "undiffuse"
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "mine"))
    assert shelf() == tmp_path / "mine"


def test_the_table(undiffuse, serve, tmp_path):
    """Every file of the seeds' systems is in it, and the class-conditional networks are not the unconditional ones."""
    listed = undiffuse("priors", "list")
    assert listed.code == 0 and undiffuse("priors").out == listed.out
    for name in ("photo", "photo-gaussian", *known()):
        assert re.search(f"^{re.escape(name)} ", listed.out, re.M)
    for file in filter(lambda file: file.sha256, known().values()):
        assert re.search(rf"^{file.name} .* sha256 {file.sha256[:12]} by users  ", listed.out, re.M)
    for size in (256, 512):
        file, classifier = known()[f"{size}x{size}_diffusion"], known()[f"{size}x{size}_classifier"]
        assert file.url is not None and file.url.endswith(f"/jul-2021/{size}x{size}_diffusion.pt")
        assert file.network["num_classes"] == 1000 and classifier.is_classifier
    for file in known().values():
        wanted = source_of(file)  # names that are safe
        assert all(url.startswith("https://") for url in wanted.urls)
        assert wanted.urls or wanted.note
        for kind, length in (("md5", 32), ("sha256", 64)):
            assert re.fullmatch(f"[0-9a-f]{{{length}}}|None", str(getattr(file, kind)))
        if file.bytes:
            assert (
                0 < file.bytes - 4 * file.parameters < 1e6
            )  # float32, and the names of some hundred tensors


@pytest.mark.parametrize("name", ["64x64_classifier", "cifar10_uncond_50M_500K", "ema_cifar10"])
def test_parameters_of_the_table(name):
    file = known()[name]
    kind = file.network.get("name", {"adm": "adm", "ho_ddpm": "ddpm"}[file.format])
    sizes = {key: value for key, value in file.network.items() if key != "name"}
    with torch.device("meta"):
        net = NETWORKS[kind](**validated(NETWORKS[kind], sizes)).build()
    assert sum(p.numel() for p in net.parameters()) == file.parameters


def test_pulling_by_name(undiffuse, serve, monkeypatch, tmp_path):
    server = serve("breaks", "fine")
    file = known()["celeba_hq"].model_copy(update={"url": server.url, "mirrors": ()})
    monkeypatch.setattr("undiffuse.app.pull.table.known", lambda: {"celeba_hq": file})
    for ask in (pulled, open_prior):
        with pytest.raises(ValueError, match="run undiffuse priors pull celeba_hq"):
            ask("celeba_hq")
    done = undiffuse("priors", "pull", "celeba_hq")
    path = tmp_path / "shelf" / "celeba_hq" / "celeba_hq.ckpt"
    assert done.code == 0 and str(path) in done.out and sha() in done.out
    assert pulled("celeba_hq") == path and pulled("another") is None
    with pytest.raises(ValueError, match=f"'{path}'"):  # the file itself is opened, and is no prior
        open_prior("celeba_hq")
    assert str(path) in undiffuse("priors", "list").out
    wrong = undiffuse("priors", "pull", "celeba_hd")
    assert wrong.code == 2 and "did you mean celeba_hq" in wrong.err
    again = undiffuse("priors", "pull", "celeba_hq", "--out", tmp_path / "mine")
    assert again.code == 0 and (tmp_path / "mine" / "celeba_hq.ckpt").read_bytes() == DATA


def test_what_has_to_be_fetched_by_hand_says_where(undiffuse, serve):
    refused = undiffuse("priors", "pull", "ffhq_10m")
    assert refused.code == 2 and "Google Drive" in refused.err and "--prior FILE" in refused.err
