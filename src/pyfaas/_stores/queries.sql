-- One sentence for each statement; those who work on the tables call them by name.

-- fact: Look up what the store knows of itself.
SELECT value FROM fact WHERE name = :name;

-- set_fact: Note what the store knows of itself.
INSERT OR REPLACE INTO fact (name, value) VALUES (:name, :value);

-- last_sent: Tell when the newest message, or record, was sent.
SELECT max(at) FROM (
    SELECT * FROM (SELECT sent_at AS at FROM message ORDER BY id DESC LIMIT 1)
    UNION ALL
    SELECT * FROM (SELECT at FROM record ORDER BY id DESC LIMIT 1)
);

-- hosts: List the hosts that have the store open, or died with it open.
SELECT number FROM host;

-- add_host: Note that one has it open.
INSERT INTO host (number) VALUES (:number);

-- forget_host: Note that one has not.
DELETE FROM host WHERE number = :number;

-- all_queues: List the queues.
SELECT id, fifo FROM queue;

-- release: Have all messages of a queue be due that a host has leased.
UPDATE message SET due_at = :now, lease = 0
WHERE queue = :queue AND due_at > :now AND lease != 0 AND lease & 65535 = :host
RETURNING "group";

-- release_cursors: Have all lanes be due that a host has leased.
UPDATE cursor SET due_at = :now, lease = 0 WHERE lease != 0 AND due_at > :now AND lease & 65535 = :host;

-- find_queue: Look for a queue.
SELECT id, fifo FROM queue WHERE name = :name;

-- queues_below: List the queues whose names begin so.
SELECT id, name, fifo FROM queue WHERE name >= :prefix AND name < :prefix || char(1114111);

-- make_queue: Begin a queue.
INSERT INTO queue (name, fifo) VALUES (:name, :fifo) RETURNING id;

-- send: Put a message at the end of a queue.
INSERT INTO message (queue, due_at, sent_at, "group", attributes, body, request_id)
VALUES (:queue, :due_at, :now, :group, :attributes, :body, :request_id);

-- send_rows: Put several messages at the end of standard queues.
INSERT INTO message (queue, due_at, sent_at, attributes, body, request_id) VALUES (?, ?, ?, ?, ?, ?);

-- claim: Lease the messages that have been due for longest, and count that they were received.
UPDATE message
SET due_at = :until, lease = :lease, receives = receives + 1,
    first_received_at = coalesce(first_received_at, :now)
WHERE id IN (
    SELECT id FROM message WHERE queue = :queue AND due_at <= :now ORDER BY due_at LIMIT :count
)
RETURNING id, receives, sent_at, first_received_at, "group", attributes, body, origin;

-- ack_rows: Forget messages whose leases are still ours.
WITH held (id, lease) AS (VALUES (?, ?))
DELETE FROM message
WHERE id IN (SELECT message.id FROM held CROSS JOIN message ON message.id = held.id AND message.lease = held.lease)
RETURNING id, lease;

-- put_back: Give up a lease that is still ours; the message is due again then.
UPDATE message SET due_at = :due_at, lease = 0 WHERE id = :id AND lease = :lease;

-- extend: Keep a lease that is still ours until then.
UPDATE message SET due_at = :due_at WHERE id = :id AND lease = :lease;

-- move: Put a message that is leased by us at the end of another queue, as if it had never been received.
UPDATE message
SET queue = :to, due_at = :now, lease = 0, receives = 0, first_received_at = NULL, origin = queue
WHERE id = :id AND lease = :lease;

-- next_due: Tell when the next message of a queue may be claimed.
SELECT min(due_at) FROM message WHERE queue = :queue;

-- count: Tell how many messages of a queue are due, leased, and delayed.
SELECT count(*) FILTER (WHERE due_at <= :now), count(*) FILTER (WHERE due_at > :now AND lease != 0),
    count(*) FILTER (WHERE due_at > :now AND lease = 0)
FROM message WHERE queue = :queue;

-- first_sent: Tell when the message of a queue was sent that was due first.
SELECT sent_at FROM message WHERE queue = :queue ORDER BY due_at LIMIT 1;

-- count_each: Tell how many messages of each queue are due, leased, and delayed.
SELECT name, count(*) FILTER (WHERE due_at <= :now), count(*) FILTER (WHERE due_at > :now AND lease != 0),
    count(*) FILTER (WHERE due_at > :now AND lease = 0)
FROM message JOIN queue ON queue.id = queue GROUP BY queue;

-- count_all: Tell how many messages there are in all queues.
SELECT count(*) FROM message;

-- purge: Forget all messages of a queue.
DELETE FROM message WHERE queue = :queue;

-- purge_groups: Forget the groups of a queue without messages.
DELETE FROM "group" WHERE queue = :queue;

-- redrive: Put messages of a queue back to those that they were moved from, the oldest first.
UPDATE message
SET queue = origin, due_at = :now, lease = 0, receives = 0, first_received_at = NULL, origin = NULL
WHERE id IN (
    SELECT id FROM message
    WHERE queue = :queue AND due_at <= :now AND origin IS NOT NULL
    ORDER BY due_at LIMIT :count
)
RETURNING queue, "group";

-- queue_name: Tell what a queue is called.
SELECT name FROM queue WHERE id = :queue;

-- open_group: See that a group of a FIFO queue is known; one that is there keeps its time.
INSERT INTO "group" (queue, name, due_at) VALUES (:queue, :group, :due_at) ON CONFLICT DO NOTHING;

-- due_groups: Find the groups of a FIFO queue whose next messages may be claimed.
SELECT name FROM "group" WHERE queue = :queue AND due_at <= :now ORDER BY due_at LIMIT :count;

-- claim_of_group: Lease the first messages of a group, up to one that is not due yet.
UPDATE message
SET due_at = :until, lease = :lease, receives = receives + 1,
    first_received_at = coalesce(first_received_at, :now)
WHERE id IN (
    SELECT id FROM message
    WHERE queue = :queue AND "group" = :group
        AND id < coalesce((
            SELECT min(id) FROM message WHERE queue = :queue AND "group" = :group AND due_at > :now
        ), 9223372036854775807)
    ORDER BY id LIMIT :count
)
RETURNING id, receives, sent_at, first_received_at, "group", attributes, body, origin;

-- head_of_group: Tell when the first message of a group is due.
SELECT due_at FROM message WHERE queue = :queue AND "group" = :group ORDER BY id LIMIT 1;

-- leased_of_group: Tell when the last lease of a group ends, of those that have not ended.
SELECT max(due_at) FROM message WHERE queue = :queue AND "group" = :group AND lease != 0 AND due_at > :now;

-- set_group: Say when the next messages of a group may be claimed.
UPDATE "group" SET due_at = :due_at WHERE queue = :queue AND name = :group;

-- close_group: Forget a group without messages.
DELETE FROM "group" WHERE queue = :queue AND name = :group;

-- next_due_group: Tell when the next messages of a FIFO queue may be claimed.
SELECT min(due_at) FROM "group" WHERE queue = :queue;

-- duplicate: Look for a message that was sent with this id.
SELECT message FROM duplicate WHERE queue = :queue AND id = :id AND until > :now;

-- note_duplicate: Take no message with this id until then.
INSERT OR REPLACE INTO duplicate (queue, id, message, until) VALUES (:queue, :id, :message, :until);

-- forget_duplicates: Forget ids that may be taken again.
DELETE FROM duplicate WHERE until <= :now;

-- request_of: Tell under which request id a message was accepted.
SELECT request_id FROM message WHERE id = :message
UNION ALL SELECT request_id FROM submission WHERE message = :message;

-- finished: Tell what came of a request.
SELECT request_id, function, state, attempts, accepted_at, finished_at, value, error
FROM submission WHERE request_id = :request_id;

-- unfinished: Tell what is known of a request that is not finished.
SELECT name, sent_at, due_at, lease, attributes FROM message JOIN queue ON queue.id = queue
WHERE request_id = :request_id;

-- finish_rows: Note what came of requests.
INSERT INTO submission (message, request_id, function, state, attempts, accepted_at, finished_at, value, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- again: Give up a lease that is still ours, and note how far it came; the message is due again then.
UPDATE message SET due_at = :due_at, lease = 0, attributes = :attributes WHERE id = :id AND lease = :lease;

-- forget_old: Forget what was finished before, some at a time.
DELETE FROM submission WHERE message IN (
    SELECT message FROM submission WHERE finished_at <= :before ORDER BY finished_at LIMIT :count
);

-- forget_more: Forget what was finished before, but for the newest so many and those whose key is known, some at a time.
DELETE FROM submission WHERE message IN (
    SELECT message FROM submission
    WHERE finished_at <= :before
        AND NOT EXISTS (SELECT 1 FROM duplicate WHERE duplicate.message = submission.message)
    ORDER BY finished_at DESC LIMIT :count OFFSET :kept
);

-- mappings: List who gets what comes from where.
SELECT id, source, target, name, rule, enabled FROM mapping ORDER BY id;

-- add_mapping: Say that a target gets what comes from a source, by this rule; whether it is paused stays as it was.
INSERT INTO mapping (source, target, name, rule) VALUES (:source, :target, :name, :rule)
ON CONFLICT (source, target, name) DO UPDATE SET rule = excluded.rule;

-- remove_mapping: Forget one.
DELETE FROM mapping WHERE id = :id;

-- change_mapping: Give one another rule.
UPDATE mapping SET rule = :rule WHERE id = :id;

-- enable_mapping: Pause one, or let it go on.
UPDATE mapping SET enabled = :enabled WHERE id = :id;

-- schedules_of: List the schedules of a function.
SELECT id, function, name, declared, rule, began_at, next_at FROM schedule WHERE function = :function ORDER BY id;

-- set_schedule: Have a function run at times; one of this name is replaced.
INSERT INTO schedule (function, name, declared, rule, began_at, next_at, fires_at)
VALUES (:function, :name, :declared, :rule, :began_at, :next_at, :fires_at)
ON CONFLICT (function, name) DO UPDATE SET declared = excluded.declared, rule = excluded.rule,
    began_at = excluded.began_at, next_at = excluded.next_at, fires_at = excluded.fires_at;

-- remove_schedule: Forget one.
DELETE FROM schedule WHERE function = :function AND name = :name;

-- due_schedules: Find those that are due, the earliest first, and whether their triggers are enabled.
SELECT schedule.id, function, schedule.name, declared, schedule.rule, began_at, next_at, coalesce(enabled, 1)
FROM schedule LEFT JOIN mapping
    ON declared AND source = 'schedule/' || schedule.name AND target = 'function/' || function AND mapping.name = ''
WHERE fires_at <= :wall ORDER BY fires_at LIMIT :count;

-- advance_schedule: Say when one is due again.
UPDATE schedule SET next_at = :next_at, fires_at = :fires_at WHERE id = :id;

-- forget_schedule: Forget one that is over.
DELETE FROM schedule WHERE id = :id;

-- next_schedule: Tell when the next one fires.
SELECT min(fires_at) FROM schedule WHERE fires_at IS NOT NULL;

-- idempotent: Look for what was run under a key.
SELECT until, payload, value FROM idempotent WHERE function = :function AND key = :key;

-- set_idempotent: Note what runs under a key, or what it gave.
INSERT OR REPLACE INTO idempotent (function, key, until, payload, value)
VALUES (:function, :key, :until, :payload, :value);

-- release_idempotent: Let the next one try.
DELETE FROM idempotent WHERE function = :function AND key = :key AND value IS NULL;

-- forget_idempotent: Forget some of what is over.
DELETE FROM idempotent WHERE (function, key) IN (
    SELECT function, key FROM idempotent WHERE until <= :now ORDER BY until LIMIT :count
);

-- find_log: Look for a log.
SELECT id, retention FROM log WHERE name = :name;

-- set_log: Begin a log, or have what is in it kept for another time.
INSERT INTO log (name, retention) VALUES (:name, :retention)
ON CONFLICT (name) DO UPDATE SET retention = excluded.retention
RETURNING id;

-- logs: List the logs.
SELECT id, name, retention FROM log;

-- shards: List the shards of a log, the newest generation first.
SELECT id, number, generation FROM shard WHERE log = :log ORDER BY generation DESC, number;

-- add_shard: Add one.
INSERT INTO shard (log, number, generation) VALUES (:log, :number, :generation) RETURNING id;

-- add_cursors: Have those read a new shard who read the others of its log.
INSERT INTO cursor (mapping, shard, lane, lanes, position, due_at)
SELECT DISTINCT mapping, :shard, lane, lanes, 0, :now FROM cursor
WHERE shard IN (SELECT id FROM shard WHERE log = :log);

-- forget_shard: Forget one that is closed, and empty.
DELETE FROM shard WHERE id = :shard AND NOT EXISTS (SELECT 1 FROM record WHERE record.shard = :shard);

-- append: Put a record at the end of a shard.
INSERT INTO record (shard, at, hash, key, attributes, data) VALUES (:shard, :now, :hash, :key, :attributes, :data);

-- last_of_shard: Tell which record is the newest of a shard.
SELECT max(id) FROM record WHERE shard = :shard;

-- first_since: Tell which record of a shard is the first of those that came then, or later.
SELECT min(id) FROM record WHERE shard = :shard AND at >= :at;

-- last_until: Tell which record of a shard is the last of those that had come by then.
SELECT max(id) FROM record WHERE shard = :shard AND at <= :at;

-- next_arrival: Tell when the first record after one has come.
SELECT at FROM record WHERE shard = :shard AND id > :position ORDER BY id LIMIT 1;

-- read: Give the records of a lane after a position, up to another one, that came later than then.
SELECT id, at, key, attributes, data FROM record
WHERE shard = :shard AND id > :position AND id <= :upto AND hash % :lanes = :lane AND at > :after
ORDER BY id LIMIT :count;

-- unread: Tell how many records of a lane wait, up to so many, how many bytes they hold, and when the first came.
SELECT count(*), total(size), min(at) FROM (
    SELECT length(data) AS size, at FROM record
    WHERE shard = :shard AND id > :position AND hash % :lanes = :lane AND at > :after
    ORDER BY id LIMIT :count
);

-- count_records: Tell how many records a log holds.
SELECT count(*) FROM record WHERE shard IN (SELECT id FROM shard WHERE log = :log);

-- count_unread: Tell how many records wait in all lanes.
SELECT count(*) FROM cursor JOIN record
    ON record.shard = cursor.shard AND record.id > position AND record.hash % lanes = lane;

-- trim: Forget the oldest records of a shard, some at a time, if they came before then.
DELETE FROM record
WHERE id IN (SELECT id FROM record WHERE shard = :shard ORDER BY id LIMIT :count) AND at <= :before
RETURNING id;

-- skip_trimmed: Move those on who had not read what was trimmed.
UPDATE cursor SET position = :position WHERE shard = :shard AND position < :position RETURNING (SELECT target FROM mapping WHERE mapping.id = cursor.mapping);

-- cursors_of: List the cursors of a mapping.
SELECT shard, lane, lanes, position FROM cursor WHERE mapping = :mapping;

-- set_cursor: Have a mapping read a lane of a shard from a position on.
INSERT INTO cursor (mapping, shard, lane, lanes, position, due_at)
VALUES (:mapping, :shard, :lane, :lanes, :position, :now);

-- forget_cursors: Have a mapping read a shard no more.
DELETE FROM cursor WHERE mapping = :mapping AND shard = :shard;

-- due_cursors: Find the lanes of a mapping in which something may be read, or whose window is over.
SELECT shard, number, lane, lanes, position, noted FROM reading
WHERE mapping = :mapping AND due_at <= :now AND (unread OR ends_at <= :now)
    AND generation = (
        SELECT min(generation) FROM reading
        WHERE mapping = :mapping AND (unread OR lease != 0 OR ends_at IS NOT NULL)
    )
ORDER BY due_at LIMIT :count;

-- next_due_cursor: Tell when there will be such a lane.
SELECT min(CASE WHEN unread OR lease != 0 THEN due_at ELSE max(due_at, ends_at) END) FROM reading
WHERE mapping = :mapping
    AND generation = (
        SELECT min(generation) FROM reading
        WHERE mapping = :mapping AND (unread OR lease != 0 OR ends_at IS NOT NULL)
    );

-- lease_cursor: Have nobody else read this lane until then.
UPDATE cursor SET due_at = :until, lease = :lease WHERE mapping = :mapping AND shard = :shard AND lane = :lane;

-- keep_cursor: Keep a lease that is still ours until then.
UPDATE cursor SET due_at = :until
WHERE mapping = :mapping AND shard = :shard AND lane = :lane AND lease = :lease;

-- move_cursor: Give up a lease that is still ours, and say how far it has read.
UPDATE cursor
SET position = :position, due_at = :due_at, ends_at = :ends_at, lease = 0, noted = :noted
WHERE mapping = :mapping AND shard = :shard AND lane = :lane AND lease = :lease;

-- give_back_cursor: Give up a lease that is still ours.
UPDATE cursor SET due_at = :now, lease = 0
WHERE mapping = :mapping AND shard = :shard AND lane = :lane AND lease = :lease;

-- has_archives: Tell whether something is archived, or was.
SELECT EXISTS (SELECT 1 FROM mapping WHERE target >= 'archive/' AND target < 'archive0')
    OR EXISTS (SELECT 1 FROM replay WHERE state = 'RUNNING');

-- add_replay: Have an archive's events put on their bus once more.
INSERT INTO replay (name, archive, bus, begins_at, ends_at, rules, position, upto)
VALUES (:name, :archive, :bus, :begins_at, :ends_at, :rules, :position, :upto)
ON CONFLICT (name) DO NOTHING;

-- replays: List the replays of an archive, the oldest first.
SELECT name, state, begins_at, ends_at, replayed FROM replay WHERE archive = :archive ORDER BY id;

-- next_replay: Find the first that has not ended.
SELECT id, name, archive, bus, upto, rules, position FROM replay WHERE state = 'RUNNING' ORDER BY id LIMIT 1;

-- move_replay: Say how far it came.
UPDATE replay SET position = :position, replayed = replayed + :count, state = :state WHERE id = :id;

-- end_replay: End one that has not ended.
UPDATE replay SET state = 'CANCELLED' WHERE archive = :archive AND name = :name AND state = 'RUNNING';

-- object_rows: Look up files of a bucket.
WITH wanted (bucket, key) AS (VALUES (?, ?))
SELECT key, size, mtime_ns, inode FROM wanted CROSS JOIN object USING (bucket, key);

-- objects_after: List files of a bucket in the order of their keys, from one on.
SELECT key, size, mtime_ns, inode FROM object WHERE bucket = :bucket AND key > :key ORDER BY key LIMIT :count;

-- set_object_rows: Note what files are like.
INSERT OR REPLACE INTO object (bucket, key, size, mtime_ns, inode, sequencer) VALUES (?, ?, ?, ?, ?, ?);

-- forget_object: Note that a file is gone.
DELETE FROM object WHERE bucket = :bucket AND key = :key;

-- forget_objects: Know nothing of a bucket any more.
DELETE FROM object WHERE bucket = :bucket;
