-- Version 1. Moments are seconds of the store's own time (see database.py).

CREATE TABLE fact (
    name TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;

-- Those that have the store open, or died with it open.
CREATE TABLE host (
    number INTEGER PRIMARY KEY
);

CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    fifo INTEGER NOT NULL
);

-- due_at: when it may be claimed; while it is leased, when the lease runs out. origin: the queue that it was moved from.
-- request_id: of what is to be run later, until it is finished.
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
    origin INTEGER,
    request_id BLOB
);

CREATE INDEX message_due ON message (queue, due_at);
CREATE UNIQUE INDEX message_request ON message (request_id) WHERE request_id IS NOT NULL;
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

-- What came of what was accepted to be run later; its message was there until then.
CREATE TABLE submission (
    message INTEGER PRIMARY KEY,
    request_id BLOB NOT NULL UNIQUE,
    function TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    accepted_at REAL NOT NULL,
    finished_at REAL NOT NULL,
    value BLOB,
    error TEXT
);

CREATE INDEX submission_finished ON submission (finished_at);

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

-- A log of a stream, or an archive of a bus. retention: seconds.
CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    retention REAL NOT NULL
);

-- The parts of a log, by the hashes of keys. Those of a generation are closed when there are to be more, or fewer, of
-- them; who reads the log reads them to their end first.
CREATE TABLE shard (
    id INTEGER PRIMARY KEY,
    log INTEGER NOT NULL,
    number INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    UNIQUE (log, number)
);

-- id: the order of all records of the store. hash: of the key, for lanes.
CREATE TABLE record (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    shard INTEGER NOT NULL,
    at REAL NOT NULL,
    hash INTEGER NOT NULL,
    key TEXT NOT NULL,
    attributes TEXT,
    data BLOB NOT NULL
);

CREATE INDEX record_shard ON record (shard);

-- How far a mapping has read its lane of a shard: up to the record at position. due_at: when it may read on; while it
-- is leased, when the lease runs out. ends_at: when it is to be told that a window is over. noted: JSON, its own.
CREATE TABLE cursor (
    mapping INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    lanes INTEGER NOT NULL,
    position INTEGER NOT NULL,
    due_at REAL NOT NULL,
    ends_at REAL,
    lease INTEGER NOT NULL DEFAULT 0,
    noted TEXT,
    PRIMARY KEY (mapping, shard, lane)
) WITHOUT ROWID;

CREATE TRIGGER mapping_gone AFTER DELETE ON mapping BEGIN
    DELETE FROM cursor WHERE mapping = old.id;
END;

CREATE TRIGGER shard_gone AFTER DELETE ON shard BEGIN
    DELETE FROM cursor WHERE shard = old.id;
END;

CREATE VIEW reading AS
SELECT cursor.*, number, generation,
    EXISTS (SELECT 1 FROM record WHERE record.shard = cursor.shard AND record.id > position) AS unread
FROM cursor JOIN shard ON shard.id = cursor.shard;

-- Events of an archive that are put on their bus once more: from the record after position on, up to upto. rules: JSON,
-- the names of those who get them, or NULL.
CREATE TABLE replay (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    archive TEXT NOT NULL,
    bus TEXT NOT NULL,
    begins_at REAL NOT NULL,
    ends_at REAL NOT NULL,
    rules TEXT,
    position INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    replayed INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'RUNNING'
);

-- The files of buckets, as they were when their events were made. key: bytes. size, mtime_ns, inode: what tells whether
-- it has been written since.
CREATE TABLE object (
    bucket TEXT NOT NULL,
    key BLOB NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    sequencer INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) WITHOUT ROWID;

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
