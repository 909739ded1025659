"""Every metric's name in one place, with a sentence that says what it means."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Counter(
    "billbus_requests_total", "HTTP requests answered by an intake.", ["service", "route", "method", "status"]
)
REQUEST_SECONDS = Histogram(
    "billbus_request_seconds", "How long an intake took to answer.", ["service", "route"], buckets=SECONDS
)
REFUSED = Counter(
    "billbus_refused_total",
    "Requests, rows and flags refused by the name of an unsupported row of the seed.",
    ["service", "row"],
)
ACCEPTED = Counter(
    "billbus_accepted_total",
    "Facts taken from a partner and acknowledged by all in-sync replicas.",
    ["service", "biller", "kind"],
)
PUBLISHED = Counter("billbus_published_total", "Events acknowledged by all in-sync replicas.", ["topic"])
NOT_ACKNOWLEDGED = Counter(
    "billbus_not_acknowledged_total", "Events whose acknowledgement did not come in time.", ["topic"]
)
SETTLED = Counter(
    "billbus_lane_settled_total",
    "Records that a lane brought to an end, by state; 'known' were already settled and skipped.",
    ["lane", "biller", "state"],
)
FAILURES = Counter(
    "billbus_lane_failures_total",
    "Failed attempts by kind: retryable, unknown, outage, or a fault of the handler itself.",
    ["lane", "biller", "kind"],
)
LOOKED_UP = Counter(
    "billbus_lane_looked_up_total",
    "Deliveries in doubt for which the partner was asked, by its answer.",
    ["lane", "biller", "answer"],
)
DEAD_LETTERS = Counter("billbus_lane_dead_letters_total", "Records that could not be decoded.", ["lane"])
ATTEMPT_SECONDS = Histogram(
    "billbus_lane_attempt_seconds", "How long one delivery attempt took.", ["lane"], buckets=SECONDS
)
IN_FLIGHT = Gauge("billbus_lane_in_flight", "Calls to the partner under way.", ["lane"])
UNFINISHED = Gauge("billbus_lane_unfinished", "Records fetched and not yet settled.", ["lane"])
OLDEST_SECONDS = Gauge(
    "billbus_lane_oldest_unfinished_seconds", "Age of the oldest unsettled record.", ["lane"]
)
RETENTION_USED = Gauge(
    "billbus_lane_retention_used_ratio",
    "Age of the oldest unsettled record as a part of its topic's retention; at 1 it is gone from the log.",
    ["lane"],
)
LAG = Gauge("billbus_lane_lag_records", "Records of a partition not yet committed.", ["lane", "partition"])
HALTED = Gauge(
    "billbus_lane_halted", "Partitions that wait for an operator, such as after a lost offset.", ["lane"]
)
BREAKER_OPEN = Gauge(
    "billbus_breaker_open", "1 while a partner service of a biller is taken to be away.", ["lane", "biller"]
)
CURSORS_OPENED = Counter(
    "billbus_lane_cursors_opened_total",
    "Times that a biller, or one of its accounts, went behind a cursor of its own.",
    ["lane", "biller"],
)
COMMIT_FAILURES = Counter(
    "billbus_lane_commit_failures_total", "Offset commits that the broker did not take.", ["lane"]
)
LOOP_BLOCKED = Counter(
    "billbus_loop_blocked_total", "Times that the whole process stood still for more than a second."
)
LOOP_LATE_SECONDS = Gauge(
    "billbus_loop_late_seconds", "How late the process's event loop came to its newest regular turn."
)
VIEW_READY = Gauge(
    "billbus_view_ready", "1 when a view has reached the end offsets seen at its start.", ["view"]
)
VIEW_RECORDS = Counter("billbus_view_records_total", "Records that a view has read.", ["view"])
BATCHES_CLOSED = Counter("billbus_batches_closed_total", "Business days closed.", ["biller"])
POLL_UNREADABLE = Counter(
    "billbus_poll_unreadable_total",
    "Rows of a poll of IMT that nobody can read; the log names each.",
    ["biller"],
)
POLLED = Counter("billbus_polled_total", "Polls of what changed at IMT, by result.", ["biller", "result"])
POLL_ENDED = Gauge(
    "billbus_poll_ended_time_seconds",
    "When a poll of what changed at IMT last ended, by result; seconds since 1970.",
    ["biller", "result"],
)
