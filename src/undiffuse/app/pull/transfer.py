"""One file from one address: resumed where it broke off, tried again where that can help. Standard library only."""

import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from undiffuse.app.events import Note, Progress

CHUNK = 2**20  # bytes read at once
LARGEST = 32 * 2**30  # bytes of a file whose size nobody said
SPARE = 64 * 2**20  # bytes of the disk that are left free
REDIRECTS = 5
LONGEST_WAIT = 60.0  # seconds, also where the server asks for more
PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers after which another try can help
MEANINGS = {
    401: "wants a login",
    403: "access denied",
    404: "no such file",
    410: "gone for good",
    429: "too many requests",
    451: "blocked for legal reasons",
    503: "overloaded",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a transfer is waited for."""

    stall: float = 30.0  # seconds without a byte
    tries: int = 6  # in a row that led less than CHUNK further
    wait: float = 1.0  # seconds before the second try; doubles from try to try


class Refused(ValueError):
    """This address does not give the file, and will not: another one may."""


class _Again(Exception):
    """It broke off."""

    def __init__(self, why: str, after: float = 0.0):
        super().__init__(why)
        self.after = after  # seconds the server asks to wait


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a transfer has to bring."""

    url: str
    bytes: int | None  # None: unknown
    hashed: bool  # whether a checksum will be compared: then half a file may be continued on trust


def transfer(wanted: Wanted, part: Path, patience: Patience) -> Iterator[Progress | Note]:
    """Fill `part`, from where it ends if the server can. Refused if the address does not give the file."""
    scheme = urllib.parse.urlsplit(wanted.url).scheme
    if scheme not in ("http", "https"):
        raise Refused(f"{wanted.url} is no http(s) address")
    failures, wait, furthest = 0, patience.wait, _size(part)
    reasons: dict[str, None] = {}
    while True:
        try:
            yield from _attempt(wanted, part, patience)
            return
        except _Again as error:
            if (
                _size(part) >= furthest + CHUNK
            ):  # not from the last try: who begins anew each time gets nowhere
                failures, wait, furthest = 0, patience.wait, _size(part)
            failures, reasons = failures + 1, reasons | {str(error): None}
            if failures >= patience.tries:
                raise Refused(f"{wanted.url}: {', '.join(reasons)}; {failures} tries in a row") from None
            seconds = min(LONGEST_WAIT, max(wait, error.after))
            yield Note(f"{error}; trying again in {seconds:.0f} s")
            time.sleep(seconds)
            wait *= 2


def _attempt(wanted: Wanted, part: Path, patience: Patience) -> Iterator[Progress]:
    kept, validator = _size(part), _validator(part, wanted.url)
    headers = {"User-Agent": "undiffuse", "Accept-Encoding": "identity"}
    if kept and (validator or wanted.hashed):
        headers["Range"] = f"bytes={kept}-"
        headers |= {"If-Range": validator} if validator else {}
    answer = _opened(urllib.request.Request(wanted.url, headers=headers), part, patience)
    with answer:
        start, total = _span(answer, wanted, kept, part)
        _check_room(part, wanted.url, start, total)
        _remember(part, wanted.url, answer.headers)
        with open(part, "r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            yield from _copied(answer, file, wanted, start, total, patience)
            file.flush()
            os.fsync(file.fileno())


def _copied(
    answer: Any, file: IO[bytes], wanted: Wanted, done: int, total: int | None, patience: Patience
) -> Iterator[Progress]:
    label, most = Path(urllib.parse.urlsplit(wanted.url).path).name or "download", total or LARGEST
    while True:
        yield Progress(done // CHUNK, max(1, (total or done + 1) // CHUNK), f"{label}, MiB")
        try:
            data = answer.read1(CHUNK)
        except TimeoutError:
            raise _Again(f"no byte for {patience.stall:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"the connection broke ({type(error).__name__})") from None
        if not data:
            break
        done += len(data)
        if done > most:
            raise Refused(f"{wanted.url} sends more than {most:,} bytes")
        file.write(data)
    if total is not None and done < total:
        raise _Again(f"the connection ended after {done:,} of {total:,} bytes")


def _opened(request: urllib.request.Request, part: Path, patience: Patience) -> Any:
    try:
        return _opener().open(request, timeout=patience.stall)
    except urllib.error.HTTPError as error:
        with error:
            url, code = request.full_url, error.code
            if code == 416 and _size(part):  # a file that changed, or a length that was a lie
                forget(part)
                raise _Again("nothing follows what came") from None
            meaning = MEANINGS.get(code) or (
                "leads in circles, or to no http(s) address" if 300 <= code < 400 else error.reason
            )
            said = f"HTTP {code}, {meaning}"
            if code in PASSING:
                raise _Again(said, _retry_after(error.headers)) from None
            raise Refused(f"{url}: {said}") from None
    except TimeoutError:
        raise _Again(f"no answer for {patience.stall:g} s") from None
    except urllib.error.URLError as error:
        raise _Again(f"no connection ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Again(f"no answer ({type(error).__name__}: {error})") from None


def _span(answer: Any, wanted: Wanted, kept: int, part: Path) -> tuple[int, int | None]:
    """Where the answer begins, and how long the whole file is. It is the whole file where Range was ignored."""
    length = answer.headers.get("Content-Length", "")
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != kept:
            forget(part)
            raise _Again("the server continues at another place")
        start, total = kept, None if found[3] == "*" else int(found[3])
    else:
        start, total = 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None
    if wanted.bytes is not None and total is not None and total != wanted.bytes:
        raise Refused(f"{wanted.url} has a file of {total:,} bytes, expected {wanted.bytes:,}")
    total = wanted.bytes if total is None else total
    if total is not None and total > LARGEST:
        raise Refused(f"{wanted.url} has a file of {total:,} bytes, more than {LARGEST:,}")
    return start, total


def _check_room(part: Path, url: str, start: int, total: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    needed = (total or 0) - start
    if needed + SPARE > free:
        raise ValueError(
            f"{url} needs {needed:,} bytes in '{part.parent}', which has {free:,}; make room, or choose another "
            "--out"
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To http(s) only, never from https to http, and not for ever."""

    max_redirections, max_repeats = REDIRECTS, 2

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = (urllib.parse.urlsplit(url).scheme.lower() for url in (req.full_url, newurl))
        if new not in ("http", "https") or (old, new) == ("https", "http"):
            raise Refused(f"{req.full_url} leads to {new}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """For http and https, through the proxies of the environment; no files, no ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _retry_after(headers: Any) -> float:
    text = (headers.get("Retry-After") or "").strip()
    return float(text) if re.fullmatch(r"\d{1,6}", text) else 0.0


def notes_of(part: Path) -> Path:
    """Beside a partial file: where it comes from."""
    return part.with_name(part.name + ".json")


def forget(part: Path) -> None:
    """Remove a partial file."""
    for path in (part, notes_of(part)):
        path.unlink(missing_ok=True)


def _remember(part: Path, url: str, headers: Any) -> None:
    """The state that the server's file is in: by it, and only by it, half a file without a checksum is continued."""
    tag = headers.get("ETag") or ""
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""
    notes_of(part).write_text(json.dumps({"url": url, "validator": validator[:200]}))


def _validator(part: Path, url: str) -> str:
    try:
        noted = json.loads(notes_of(part).read_text())
    except (OSError, ValueError):
        return ""
    known = isinstance(noted, dict) and noted.get("url") == url
    return noted["validator"] if known and isinstance(noted.get("validator"), str) else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
