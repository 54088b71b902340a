-- One sentence for each statement; queue.py calls them by name.

-- fact: Look up what the store knows of itself.
SELECT value FROM fact WHERE name = :name;

-- set_fact: Note what the store knows of itself.
INSERT OR REPLACE INTO fact (name, value) VALUES (:name, :value);

-- last_sent: Tell when the newest message was sent.
SELECT sent_at FROM message ORDER BY id DESC LIMIT 1;

-- find_queue: Look for a queue.
SELECT id, fifo FROM queue WHERE name = :name;

-- queues_below: List the queues whose names begin so.
SELECT id, name, fifo FROM queue WHERE name >= :prefix AND name < :prefix || char(1114111);

-- make_queue: Begin a queue.
INSERT INTO queue (name, fifo) VALUES (:name, :fifo) RETURNING id;

-- send: Put a message at the end of a queue.
INSERT INTO message (queue, due_at, sent_at, "group", attributes, body)
VALUES (:queue, :due_at, :now, :group, :attributes, :body);

-- claim: Lease the messages that have been due for longest, and count that they were received.
UPDATE message
SET due_at = :until, lease = :lease, receives = receives + 1,
    first_received_at = coalesce(first_received_at, :now)
WHERE id IN (
    SELECT id FROM message WHERE queue = :queue AND due_at <= :now ORDER BY due_at LIMIT :count
)
RETURNING id, receives, sent_at, first_received_at, "group", attributes, body, origin;

-- ack: Forget a message whose lease is still ours.
DELETE FROM message WHERE id = :id AND lease = :lease;

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

-- accept: Note that a message is to be run later, under this request id.
INSERT INTO submission (message, request_id, function, accepted_at) VALUES (:message, :request_id, :function, :now);

-- request_of: Tell under which request id a message was accepted.
SELECT request_id FROM submission WHERE message = :message;

-- submission: Tell what is known of a request, and of its message while that is there.
SELECT request_id, function, state, submission.attempts, accepted_at, finished_at, value, error, due_at, lease,
    attributes
FROM submission LEFT JOIN message ON message.id = submission.message
WHERE request_id = :request_id;

-- finish: Note what came of a submission.
UPDATE submission
SET state = :state, attempts = :attempts, finished_at = :now, value = :value, error = :error
WHERE message = :message;

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
