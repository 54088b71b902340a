"""
A mailroom that is killed in the middle, and loses nothing

Takes a mailbox file of 5,000 messages, made of what the standard library has for its own tests: its messages, its
pictures and sounds as attachments, and a few that no parser survives. Every message goes

    mailbox ──► queue ──► parse, in a sandbox ──► topic ──┬──► index    (SQLite)
                  │                                       └──► archive  (a file for each)
                  └──► dead letters: what cannot be parsed

In the middle of the work the host is killed with SIGKILL, twice, and started again. What a dead host was working on
comes back when its leases end, after 30 seconds at most. At the end a ledger shows where each of the messages is.

    python docs/examples/mailroom.py            fewer messages: python docs/examples/mailroom.py 500

Top to bottom: the functions that run in sandboxes, the host that feeds them, the mailbox, the ledger.
"""

import base64
import contextlib
import email
import email.policy
import gzip
import json
import logging
import mailbox
import os
import random
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from email.message import EmailMessage
from pathlib import Path

from pyfaas import Runtime, function, queue, topic

PLACE = Path(os.environ.get("MAILROOM") or tempfile.mkdtemp(prefix="mailroom-"))
COUNT = int(os.environ.get("MAILROOM_COUNT") or (sys.argv[1] if len(sys.argv) > 1 else 5_000))
KILLED_AT = json.loads(os.environ.get("MAILROOM_KILLED_AT") or "[0.3, 0.6]")  # when so much is archived
ARCHIVE = PLACE / "archive"
ARCHIVE.mkdir(parents=True, exist_ok=True)

# ----------------------------------------------------------------------------------------------------- in the sandboxes

unreadable = queue("unreadable")
letters = queue("letters", visibility=1, max_receives=2, dead_letter=unreadable)
parsed = topic("parsed")


@function(trigger=letters.batches(size=1), memory=128, timeout=1, allow=[parsed.publish])
def parse(event: dict) -> None:
    """Parse one message, all of its parts, attachments unpacked; what is in it goes to whoever wants it."""
    (record,) = event["Records"]
    letter = json.loads(record["body"])
    raw = base64.b64decode(letter["raw"])
    message = email.message_from_bytes(raw, policy=email.policy.default)
    attachments = []
    for part in message.walk():
        content = part.get_payload(decode=True) or b""
        if part.get_content_type() == "application/gzip":
            content = gzip.decompress(content)
        if part.get_filename():
            attachments.append({"name": part.get_filename(), "type": part.get_content_type(), "size": len(content)})
    with contextlib.suppress(Exception):  # a header that cannot be decoded is a reason to say less, not to give up
        letter["subject"] = str(message["subject"] or "")
    parsed.publish({**letter, "attachments": attachments})


@function(trigger=parsed, timeout=5, writes=[PLACE], reserved_concurrency=1)
def index(event: dict) -> None:
    """Make a line of it; a message that comes twice has one all the same."""
    letter = json.loads(event["Records"][0]["Sns"]["Message"])
    with contextlib.closing(sqlite3.connect(PLACE / "index.db", timeout=5)) as lines, lines:
        lines.execute("CREATE TABLE IF NOT EXISTS letter (number INTEGER PRIMARY KEY, subject, attachments)")
        row = letter["number"], letter.get("subject", ""), json.dumps(letter["attachments"])
        lines.execute("INSERT OR REPLACE INTO letter VALUES (?, ?, ?)", row)


@function(trigger=parsed, timeout=5, writes=[PLACE])
def archive(event: dict) -> None:
    """Keep the message as it came; a file is there whole or not at all."""
    letter = json.loads(event["Records"][0]["Sns"]["Message"])
    kept = ARCHIVE / f"{letter['number']:05d}.eml"
    half = kept.with_suffix(f".{os.getpid()}")
    half.write_bytes(base64.b64decode(letter["raw"]))
    half.rename(kept)
    with open(PLACE / "archived", "a") as times:
        times.write(f"{letter['number']}\n")


# ------------------------------------------------------------------------------------------------------------- the host


def work() -> None:
    """Take over where the last host was killed: put what is new into the queue, and run until all is done."""
    logging.basicConfig(filename=PLACE / "mailroom.log")  # why parsing failed, which would go to the screen else
    with Runtime(store=PLACE / "mailroom.db", keep_alive=60) as runtime:
        feed()
        while runtime.backlog().keys() - {"queue/unreadable"}:
            time.sleep(0.05)


def feed() -> None:
    """
    Put the messages of the mailbox into the queue, a hundred at a time.

    How far it came is noted after that; whoever is killed in between puts a hundred in twice, and nothing is left out.
    """
    noted = PLACE / "fed"
    first = int(noted.read_text()) if noted.exists() else 0
    with contextlib.closing(mailbox.mbox(PLACE / "mailbox")) as box:
        for start in range(first, COUNT, 100):
            numbers = range(start, min(start + 100, COUNT))
            letters.send_many({"number": n, "raw": base64.b64encode(box.get_bytes(n)).decode()} for n in numbers)
            noted.with_suffix(".new").write_text(str(numbers[-1] + 1))
            noted.with_suffix(".new").rename(noted)


# ---------------------------------------------------------------------------------------------------------- the mailbox

POISON = {7: "nested 3,000 deep", 77: "a bomb of 300 MB", 177: "an attachment that is not what it says"}


def make_mailbox() -> None:
    """Write the messages one after the other; what they are made of depends on the number alone."""
    tests = Path(sysconfig.get_path("stdlib")) / "test"
    folders = [
        tests / "test_email" / "data",
        tests / "imghdrdata",
        tests / "sndhdrdata",
        tests / "archivetestdata",
        tests,
    ]
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir()) if file.is_file()]
    templates = [file.read_bytes() for file in files if file.name.startswith("msg_") and file.suffix == ".txt"]
    templates = [one for one in templates if not one.startswith(b"From ")]
    small = [file for file in files if file.suffix not in (".py", ".txt") and file.stat().st_size < 100_000]
    small = small or [Path(email.__file__)]
    with open(PLACE / "mailbox", "wb") as box:
        for number in range(COUNT):
            box.write(b"From mailroom Sat Nov 21 12:00:00 2026\n")
            body = one_message(number, templates, small).replace(b"\nFrom ", b"\n>From ")
            box.write(body.rstrip(b"\n") + b"\n\n")


def one_message(number: int, templates: list[bytes], attachments: list[Path]) -> bytes:
    """Make a message: a poisonous one, one of the standard library's as it is, or a letter with attachments."""
    chance = random.Random(number)
    if number in POISON:
        return poison(number)
    if templates and number % 3:
        return templates[number % len(templates)]
    message = EmailMessage()
    message["From"], message["To"] = "Ada <ada@example.org>", "Bob <bob@example.org>"
    message["Subject"] = f"Letter {number}, with things: äöü"
    message.set_content(f"Number {number}.\n" * chance.randrange(1, 50))
    for file in chance.sample(attachments, min(chance.randrange(4), len(attachments))):
        message.add_attachment(file.read_bytes(), maintype="application", subtype="octet-stream", filename=file.name)
    if number % 6 == 0:
        notes = gzip.compress(f"notes on {number}\n".encode() * 1000)
        message.add_attachment(notes, maintype="application", subtype="gzip", filename="notes.gz")
    return bytes(message)


def poison(number: int) -> bytes:
    """Make a message that no honest parser survives with 128 MB and a second."""
    if number == 7:
        part = b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n"
        return b"Subject: deep\n" + b"".join(part % (depth, depth) for depth in range(3_000))
    message = EmailMessage()
    message["Subject"] = POISON[number]
    bomb = b"".join(gzip.compress(bytes(10_000_000)) for _ in range(30)) if number == 77 else b"no gzip at all"
    message.add_attachment(bomb, maintype="application", subtype="gzip", filename="present.gz")
    return bytes(message)


# ----------------------------------------------------------------------------------------------------------- the ledger


def numbers_archived() -> Counter[int]:
    with contextlib.suppress(FileNotFoundError):
        return Counter(map(int, (PLACE / "archived").read_text().split()))
    return Counter()


def dead_letters() -> list[int]:
    """List what lies in the dead letter queue, by the numbers of the messages; and look whether the file is sound."""
    with contextlib.closing(sqlite3.connect(f"file:{PLACE / 'mailroom.db'}?mode=ro", uri=True)) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = store.execute("SELECT body FROM message JOIN queue ON queue.id = queue WHERE name = 'queue/unreadable'")
        return sorted({json.loads(body)["number"] for (body,) in rows})


def close_the_books() -> bool:
    """Compare what came in with what is there, message by message."""
    times, dead = numbers_archived(), dead_letters()
    kept = {int(file.stem) for file in ARCHIVE.glob("*.eml")}
    with contextlib.closing(sqlite3.connect(PLACE / "index.db")) as lines:
        indexed = {number for (number,) in lines.execute("SELECT number FROM letter")}
    with contextlib.closing(mailbox.mbox(PLACE / "mailbox")) as box:
        came = [box.get_bytes(n) for n in range(COUNT)]
    wrong = [n for n in kept if (ARCHIVE / f"{n:05d}.eml").read_bytes() != came[n]]
    lost = set(range(COUNT)) - kept - set(dead)
    twice = sum(count - 1 for count in times.values())
    print(f"  came in         {COUNT:>6,}")
    print(f"  archived        {len(kept):>6,}   each as it came: {wrong or 'yes'}")
    print(f"  indexed         {len(indexed):>6,}")
    print(f"  dead letters    {len(dead):>6,}   {', '.join(f'{n} ({POISON.get(n)})' for n in dead)}")
    print(f"  archived again  {twice:>6,}   had been in flight when the host was killed")
    print(f"  lost            {len(lost):>6,}   {sorted(lost) or ''}")
    good = not lost and not wrong and kept == indexed and set(dead) == {n for n in POISON if n < COUNT}
    print("every message is accounted for" if good else "THE BOOKS DO NOT BALANCE")
    return good


def start() -> subprocess.Popen:
    environment = {**os.environ, "MAILROOM": str(PLACE), "MAILROOM_COUNT": str(COUNT), "MAILROOM_WORK": "1"}
    return subprocess.Popen([sys.executable, __file__], env=environment)


def main() -> int:
    began = time.monotonic()
    make_mailbox()
    size = (PLACE / "mailbox").stat().st_size
    print(f"a mailbox of {COUNT:,} messages, {size / 1_048_576:.1f} MB, in {PLACE}")
    for share in KILLED_AT:
        host = start()
        while len(numbers_archived()) < share * COUNT:
            assert host.poll() is None, "the host ended by itself"
            time.sleep(0.01)
        host.send_signal(signal.SIGKILL)
        host.wait()
        print(f"  {time.monotonic() - began:5.1f} s  {len(numbers_archived()):,} are archived: kill -9")
    assert start().wait() == 0
    print(f"  {time.monotonic() - began:5.1f} s  done")
    return 0 if close_the_books() else 1


if __name__ == "__main__":
    if os.environ.get("MAILROOM_WORK"):
        work()
    else:
        sys.exit(main())
