-- Version 1. Moments are seconds of the store's own time (see database.py).

CREATE TABLE fact (
    name TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;

CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    fifo INTEGER NOT NULL
);

-- due_at: when it may be claimed; while it is leased, when the lease runs out. origin: the queue that it was moved from.
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL,
    due_at REAL NOT NULL,
    lease INTEGER NOT NULL DEFAULT 0,
    receives INTEGER NOT NULL DEFAULT 0,
    sent_at REAL NOT NULL,
    first_received_at REAL,
    "group" TEXT,
    attributes TEXT,
    body BLOB NOT NULL,
    origin INTEGER
);

CREATE INDEX message_due ON message (queue, due_at);
CREATE INDEX message_group ON message (queue, "group", id) WHERE "group" IS NOT NULL;

-- Groups of FIFO queues that hold messages. due_at: when the next ones may be claimed; while some are leased, when that
-- ends.
CREATE TABLE "group" (
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    due_at REAL NOT NULL,
    PRIMARY KEY (queue, name)
) WITHOUT ROWID;

CREATE INDEX group_due ON "group" (queue, due_at);

-- What was sent with this id is not taken again until then.
CREATE TABLE duplicate (
    queue INTEGER NOT NULL,
    id TEXT NOT NULL,
    message INTEGER NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (queue, id)
) WITHOUT ROWID;

CREATE INDEX duplicate_until ON duplicate (until);
CREATE INDEX duplicate_message ON duplicate (message);

-- What was accepted to be run later, and what came of it; its message is there until then.
CREATE TABLE submission (
    message INTEGER PRIMARY KEY,
    request_id BLOB NOT NULL UNIQUE,
    function TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    accepted_at REAL NOT NULL,
    finished_at REAL,
    value BLOB,
    error TEXT
);

CREATE INDEX submission_finished ON submission (finished_at) WHERE finished_at IS NOT NULL;

-- Who gets what comes from a source: a row for each trigger of a function, and for each queue that a topic feeds.
-- "kind/name" are source and target; name tells apart several of one source and target; rule is JSON.
CREATE TABLE mapping (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    name TEXT NOT NULL,
    rule TEXT NOT NULL,
    enabled INTEGER NOT NULL DEFAULT 1,
    UNIQUE (source, target, name)
);

-- What is due at times on the wall. next_at: the next one; fires_at: that, somewhere in its flexible window; both NULL
-- once it is over. began_at: from which rate() counts. declared: by a trigger; else by hand, and forgotten when over.
CREATE TABLE schedule (
    id INTEGER PRIMARY KEY,
    function TEXT NOT NULL,
    name TEXT NOT NULL,
    declared INTEGER NOT NULL,
    rule TEXT NOT NULL,
    began_at REAL NOT NULL,
    next_at REAL,
    fires_at REAL,
    UNIQUE (function, name)
);

CREATE INDEX schedule_fires ON schedule (fires_at) WHERE fires_at IS NOT NULL;

-- What was run under which key. until: while value is NULL the end of the lock, then when it is forgotten.
CREATE TABLE idempotent (
    function TEXT NOT NULL,
    key BLOB NOT NULL,
    until REAL NOT NULL,
    payload BLOB NOT NULL,
    value BLOB,
    PRIMARY KEY (function, key)
) WITHOUT ROWID;

CREATE INDEX idempotent_until ON idempotent (until);
