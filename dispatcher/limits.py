"""Every bound in the dispatcher (INV-6), and how the bounds follow from each other.

What an operator may change is a setting (``config.py``); what is here is fixed.
A number's source or reason stands beside it.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# --- process --------------------------------------------------------------------------
HEAP_KEPT_BYTES_MAX = 64 * MIB  # freed memory kept for the next request: bodies of a few of the largest
HEAP_BLOCK_BYTES_MAX = 32 * MIB  # a larger one goes back when it is freed; the most glibc allows

# --- requests -------------------------------------------------------------------------
REQUEST_BODY_BYTES_MAX = 16 * MIB  # contract
API_BODY_BYTES_MAX = 1 * MIB  # /v2 bodies: 1,024 pre-subscriptions of full length fit
REQUEST_HEAD_BYTES_MAX = 64 * KIB  # h11's own default is 16 KiB, nginx 32 KiB; keys ride in here
REQUEST_HEAD_TIMEOUT_S = 20.0  # first byte to end of head
REQUEST_BODY_STALL_S = 20.0  # longest silence inside a body
REQUEST_BODY_TIMEOUT_S = 120.0  # whole body: 16 MiB at 140 KB/s
FIRST_REQUEST_S = 20.0  # to the first byte of a new connection, which has no reason to be idle
KEEP_ALIVE_IDLE_S = 75.0  # nginx's number
PATIENCE_STEP_S = 0.25  # how much longer than it may a connection's wait lasts at most
DRAIN_IDLE_S = 0.5  # for the next request on a kept-alive connection, when the server ends
RESPONSE_STALL_S = 20.0  # a client that does not read its answer
REQUEST_HEADERS_MAX = 100  # fields in a head; Apache's number. 64 KiB of tiny ones would cost 30 ms to parse
REQUEST_HEAD_REMEMBERED_BYTES_MAX = 1 * KIB  # kept per connection, in case the next head is the same
REQUEST_IDS_AT_ONCE = 256  # drawn from the system's random numbers, which costs a system call
REQUEST_METHOD_CHARS_MAX = 32  # the longest registered method has 17
REQUEST_HEAD_RECEIVE_BYTES = 64 * KIB  # asked of a socket at a time while a head is awaited
REQUEST_BODY_RECEIVE_BYTES = 256 * KIB  # and inside a body; stays in cache
BODY_BUFFER_BYTES = 1 * MIB  # a body of known length up to this is received into one that is used again
BODY_BUFFER_WORTH_BYTES = 32 * KIB  # a shorter one is cheaper as an object
BODY_BUFFERS_MAX = 16  # of them; bodies beyond are received in pieces
REQUEST_CHUNKS_PER_TURN = 256  # chunks parsed before other tasks run: about 1 ms
REQUEST_BODIES_BYTES_MAX = 512 * MIB  # bodies held for all connections of a server together
UNREAD_BODY_BYTES_MAX = 256 * KIB  # read and thrown away to keep a connection; more closes it
RESPONSE_PIECE_BYTES = 64 * KIB  # each has RESPONSE_STALL_S to go out: 3 KB/s is fast enough
LINGER_S = 2.0  # a closing connection reads on, so that a reset does not destroy its last answer
LINGER_BYTES_MAX = 2 * REQUEST_BODY_BYTES_MAX
TLS_HANDSHAKE_TIMEOUT_S = 10.0
TLS_CLOSE_TIMEOUT_S = 2.0  # to hand over our close_notify
CONNECTIONS_MAX = 20_000  # sockets served at once; more wait in the listen queue
FILES_RESERVE_SHARE = 4  # this part of the file descriptors is for journal, registry and deliveries alone
INTERNAL_CONNECTIONS_MAX = 256  # on server.internal_listen; out of that reserve
ACCEPT_PAUSE_S = 0.1  # before accept is tried again without file descriptors; trio's own number
SHED_LOG_INTERVAL_S = 60.0  # between two log lines on connections that were not let in
LISTEN_BACKLOG = 1024

# --- events ---------------------------------------------------------------------------
EP_CHARS_MAX = 64  # contract
PATH_CHARS_MAX = 255  # contract
PAYLOAD_BYTES_MAX = 256 * KIB  # decoded; contract
CT_CHARS_MAX = 255
EPT_CHARS_MAX = 64
ASYNC_ID_CHARS_MAX = 64  # 40 on the request side of the API, and what makes it unique on the gateway's
ASYNC_ERROR_CHARS_MAX = 255
REGISTRATION_LIFETIME_S_MAX = 1_000_000_000  # 31 years; LwM2M's own field is wider than any need
RESOURCES_MAX = 1_000  # of one registration; far above what devices have
RESOURCE_ATTRIBUTE_CHARS_MAX = 255
JSON_DEPTH_MAX = 16
JSON_CONTAINERS_MAX = 1_000_000  # objects and arrays in one text; bounds the work of decoding it
JSON_INTEGER_MAX = 2**53
EVENTS_PER_REQUEST_MAX = 200_000  # 16 MiB of the smallest events is 300,000; bounds work per request
INGEST_INLINE_BYTES_MAX = 1 * MIB  # of a body taken in one go, on the Trio thread: about 0.5 ms
INGEST_PARSERS_MAX = 2  # threads that parse larger ones
INGEST_STEP_BYTES = 1 * MIB  # of NDJSON, parsed in one go: 0.5 ms when the native scan takes it all
INGEST_STEP_ODD_BYTES = 128 * KIB  # of lines in it that the strict path has to judge: 10 ms
INGEST_STAGINGS_IDLE_MAX = 4  # kept for the next bodies, so that their pages are not asked for anew
INGEST_COPY_BYTES_MAX = 4 * KIB  # of records: to copy so little costs less than to hold a view of it
INGEST_STAGING_IDLE_BYTES_MAX = 8 * MIB  # one that has grown larger is given back
RECORD_OVERHEAD_BYTES_MAX = 40  # a record's header, and zeros up to a multiple of 8
RECORD_BYTES_MAX = 1 * MIB  # canonical; the largest notification is 350 KiB, a registration 1 MiB

# --- admission ------------------------------------------------------------------------
INGEST_REQUESTS_MAX = 4_096  # gateway requests in flight, bodies being read included
INGEST_REQUESTS_PER_GATEWAY_MAX = 1_024  # of one access key, so that one gateway cannot take all
INGEST_BODIES_BYTES_MAX = 256 * MIB  # bodies in flight: 16 of the largest
PACE_S_MAX = 5.0  # that a gateway's socket waits for its account's rate; clients' ping timeouts begin at 10 s
RECEIVER_RETRY_S = 10  # an application that found all its account's sockets taken may come back after
LIMITED_LOG_INTERVAL_S = 60.0  # between two log lines on one account's refused requests
LIMITED_ACCOUNTS_MAX = 10_000  # told of lately; over it all are told of anew

# --- idempotency ----------------------------------------------------------------------
IDEMPOTENCY_KEY_BYTES_MAX = 255
IDEMPOTENCY_KEYS_PER_ACCOUNT_MAX = 100_000
IDEMPOTENCY_LIFETIME_MS = 86_400_000
IDEMPOTENCY_ANSWER_BYTES_MAX = 192  # the longest 202 has 120

# --- channels -------------------------------------------------------------------------
MAX_CHUNK_SIZE_MIN = 100  # the API's own minimum
MAX_CHUNK_SIZE_MAX = 20_000  # the newest edition of the API; the older ones say 10,000
CALLBACK_CHARS_MAX = 400  # url + header names + header values; the API's own number
LEARNED_BATCH_BYTES_MIN = 64 * KIB  # floor when a receiver refuses large bodies
VERIFICATION_TIMEOUT_S = 10.0
VERIFICATIONS_PER_MINUTE_MAX = 10  # per application
RETRY_AFTER_S_MAX = 120.0
GAPS_PER_CHANNEL_MAX = 64  # kept apart until they are confirmed; over it the closest of one reason are joined
SUPERSEDED_AHEAD_SHARE = 64  # of a full queue that keeps the latest, made free ahead (nd_supersede.h)
SUPERSEDED_AHEAD_BYTES_MAX = 1 * MIB  # by one append in all its channels: a millisecond; as in the core
GAP_BYTES_MAX = 200  # of one gap in a message: five numbers and their names

# --- memory of all queues -------------------------------------------------------------
RELIEF_STEP_BYTES_MIN = 1 * MIB  # dropped at a time when memory is full, from the largest owner
RELIEF_STEP_SHARE = 16  # or this part of the channel, when that is more
RELIEF_BYTES_PER_CHANNEL = 1 * KIB  # freed for each channel looked at: keeps 100,000 channels affordable

# --- subscriptions, the API's own numbers --------------------------------------------------------
PRESUBSCRIPTIONS_MAX = 1024
PRESUBSCRIPTION_PATHS_MAX = 256  # distinct, over all entries
PRESUBSCRIPTION_NAME_CHARS_MAX = 64
PRESUBSCRIPTION_PATH_CHARS_MAX = 128
SUBSCRIPTIONS_PER_ACCOUNT_MAX = 1_000_000
DEVICE_TYPES_MAX = 1_000_000  # devices whose type is remembered, over all accounts
SHARED_PROFILE_PATHS_MAX = 16  # subscribed paths of a device up to which it shares them with devices like it
ROUTES_BYTES_MAX = 16_384 * MIB  # of subscriptions and what is remembered, over all accounts
ROUTE_CHANNELS_MAX = 262_144  # channels of audiences that are remembered, per account: 8 bytes each
ROUTE_CACHE_MAX = 1_000_000  # devices and paths whose audiences are remembered, per account: 60 bytes each

# --- devices --------------------------------------------------------------------------
DEVICES_PER_ACCOUNT_MAX = 1_000_000  # in the directory, on disk; the one heard of longest ago is forgotten
DEVICE_REPORTS_UNWRITTEN_MAX = 200_000  # life-cycle events that wait for the registry; then 503
DEVICES_PER_STEP = 500  # registrations that ran out, told of in one go

# --- device requests ------------------------------------------------------------------
DEVICE_REQUESTS_PER_DEVICE_MAX = 20  # the API's own number
DEVICE_REQUESTS_PER_ACCOUNT_MAX = 100_000
DEVICE_REQUEST_BYTES_PER_ACCOUNT_MAX = 64 * MIB  # of their payloads, in memory
DEVICE_REQUEST_IDS_REMEMBERED_MAX = 100_000  # of finished ones, over all accounts
DEVICE_REQUEST_PAYLOAD_BYTES_MAX = 1 * MIB  # the API's own number
DEVICE_REQUEST_BODY_BYTES_MAX = 2 * MIB  # such a payload in base64, in JSON
DEVICE_REQUEST_ASYNC_ID_CHARS_MAX = 40  # the API's own number
DEVICE_REQUEST_RETRY_MAX = 10  # the API's own numbers, from here ...
DEVICE_REQUEST_EXPIRY_S_MIN = 60
DEVICE_REQUEST_EXPIRY_S_MAX = 2_592_000
DEVICE_REQUEST_EXPIRY_S = 7_200
DEVICE_REQUEST_QUEUE_MODE_EXPIRY_S = 259_200
DEVICE_REQUEST_QUEUE_MODE_RETRY = 2  # ... to here
DEVICE_ANSWER_TIMEOUT_S = 120.0  # for one attempt; CoAP gives up a message after 93 s
DEVICE_RETRY_PAUSE_S = 1.0  # after a failed attempt; doubles
DEVICE_RETRY_PAUSE_S_MAX = 60.0
GATEWAY_RETURN_S = 60.0  # without a socket, before its devices count as not connected

# --- values of resources --------------------------------------------------------------
VALUE_LIFETIME_S = 60.0  # the API's own: CoAP's default max-age
VALUE_LIFETIME_S_MAX = 259_200.0  # the API's own
VALUES_BYTES_PER_ACCOUNT_MAX = 16 * MIB
VALUE_OVERHEAD_BYTES = 400  # counted for each: what Python takes for keys and tables
VALUES_UNREAD_EVENTS_MAX = 100_000  # seen go by without a read, before an account is left alone

# --- journal --------------------------------------------------------------------------
JOURNAL_SEGMENT_BYTES = 64 * MIB  # preallocated; a fifth of a second at full speed, minutes at a usual one
JOURNAL_GROUP_BYTES_MAX = 24 * MIB  # written at once; two are in memory: one gathers while one is written
JOURNAL_BEGUN_AT_ONCE_BYTES = 64 * KIB  # of a group; to join a smaller one others have a turn of the loop
JOURNAL_ALLOWANCE_BYTES = 6 * JOURNAL_SEGMENT_BYTES  # of disk, over twice what is live
JOURNAL_STEP_BYTES = 256 * KIB  # moved by cleaning before others get their turn: a tenth of a millisecond
JOURNAL_MOVES_MIN_BYTES = 2 * MIB  # moved with each group while the disk holds too much
JOURNAL_MOVES_PER_PUBLISHED = 8  # or so many bytes for each that publishers added; see core/journal_space
JOURNAL_RETRY_S = 1.0  # a full disk is tried again each second
ACK_FLUSH_S = 0.1  # how long acks wait for a publisher's group; what a crash may send twice

# --- gateways' sockets ----------------------------------------------------------------
GATEWAY_SOCKETS_PER_ACCOUNT_MAX = 1_000
GATEWAY_RETRY_S = 10.0  # a gateway that found no room may come back after
GATEWAY_WINDOW_MESSAGES = 64  # published and not answered yet, on one socket; one sync serves them all
GATEWAY_UNFINISHED_BYTES_MAX = 256 * MIB  # of messages begun and not finished, on all sockets
GATEWAY_MESSAGE_BYTES = 768 * KIB  # of device requests sent together; common clients refuse over 1 MiB
DEVICE_REQUEST_HEAD_BYTES = 1 * KIB  # counted for one beside its payload
DEVICE_SOCKETS_REMEMBERED_MAX = 1_000_000  # devices whose last socket is known, over all accounts
GATEWAY_RECEIVE_BYTES = 64 * KIB
GATEWAY_FINISH_S = 20.0  # for messages of a socket that has ended to become durable
GATEWAY_WRITE_STALL_S = 20.0  # for one message down; a gateway that reads nothing is given up

# --- queues' memory -------------------------------------------------------------------
QUEUE_MEMORY_IDLE_S = 10.0  # memory that lay free for so long goes back to the system
QUEUE_MEMORY_STEP_SLABS = 4  # of 2 MiB, given back before others get their turn: 0.8 ms

# --- cold queues ----------------------------------------------------------------------
SCRATCH_THREADS = 5  # one that writes chunks out, and the others read them back
FETCHES_MAX = SCRATCH_THREADS - 1  # at once; each holds the memory that it reads into
FETCH_SHARE = 8  # this part of the memory set aside for reading back, at most, for one slice
FETCH_AHEAD_BYTES = 1 * MIB  # read back at a time while a batch is being sent: four pieces
FRAMED_BYTES_MAX = 16 * MIB  # written of cold batches and not sent, but for what is being written

# --- sending --------------------------------------------------------------------------
SEND_NOW_BYTES_MAX = 16 * KIB  # sent without others having a turn: about 10 us
SEND_PIECE_BYTES = 256 * KIB  # stays in cache, and keeps one send from stalling others
SEND_PIECES_MAX = 8  # of a message, sent one by one before others have a turn: a millisecond
WINDOW_BYTES_MAX = 16 * MIB  # unconfirmed on one WebSocket
WINDOW_BATCHES_MAX = 4  # full batches' worth of events unconfirmed on one WebSocket
WINDOW_PINGS_MAX = 32  # unanswered at once; Node ws 8.23 ends a connection over 60 pongs it has yet to write
WEBSOCKET_HEADER_BYTES_MAX = 10  # unmasked: 2 + 8 bytes of length
WEBSOCKET_CLIENT_MESSAGE_BYTES_MAX = 64 * KIB  # clients have nothing to say; more closes with 1009
WEBSOCKET_CLOSE_WAIT_S = 2.0  # for the peer's answer to our Close frame
WEBSOCKET_RECEIVE_BYTES = 4 * KIB  # read at once; clients send pongs of 10 bytes
WEBSOCKET_DEFLATE_BYTES_MIN = 1 * KIB  # of a message that is compressed; what fits in a packet gains nothing
WEBSOCKET_DEFLATE_LOOP_BYTES_MAX = 16 * KIB  # a message up to so many is compressed at once: 35 us
WEBSOCKET_DEFLATE_THREADS_MAX = 2  # that compress longer ones, a piece at a time: 1 ms
WEBSOCKET_DEFLATE_BURST_S = 0.25  # of server.websocket_deflate_bytes_per_s, at once after a rest
PROGRESS_CHECKS_PER_ACK_TIMEOUT = 8  # looks at TCP_INFO while something is unconfirmed
SEND_BUFFERS_IDLE_MAX = 16  # buffers of SEND_PIECE_BYTES kept for the next sends; 4 MiB
LONG_POLL_ANSWERS_BYTES_MAX = 256 * MIB  # answers that no socket has taken yet; further polls wait
TCP_ACK_DELAY_S = 0.25  # longest that kernels delay an acknowledgement: 200 ms on Linux and Windows
CALLBACK_RESPONSE_HEAD_BYTES_MAX = 16 * KIB  # h11's own default; more is not an answer
CALLBACK_RESPONSE_BYTES_MAX = 64 * KIB  # read and thrown away; more ends the connection
CALLBACK_RESPONSE_DRAIN_S = 1.0  # for the rest of an answer whose status is known
CALLBACK_INFORMATIONAL_MAX = 8  # 1xx answers before the real one
CALLBACK_ADDRESSES_MAX = 8  # addresses of one name that are tried
CALLBACK_ADDRESS_ATTEMPT_S = 4.0  # for one address while there is another to try
CALLBACK_IDLE_S = 60.0  # a kept-alive callback connection with nothing to send
CALLBACK_SENDS_MAX = 2_000  # callback requests in flight at once; each may hold a piece
CALLBACK_RETRIES_MAX = 1_000  # of these, by channels whose last attempt failed (INV-9)
CALLBACK_WRAP_PIECE_BYTES = 64 * KIB  # signed or compressed at once: half a millisecond
CALLBACK_GZIP_LOOP_BYTES_MAX = 16 * KIB  # a message up to so many is compressed at once, beside no other work
CALLBACK_GZIP_KEPT_BYTES_MAX = SEND_PIECE_BYTES  # compressed; longer ones are compressed again while sent
CALLBACK_GZIP_THREADS_MAX = 4  # that compress at once
SIGNING_SECRET_BYTES_MIN = 24  # Standard Webhooks: 24 to 64
SIGNING_SECRET_BYTES_MAX = 64
SIGNING_OVERLAP_S = 86_400.0  # in which the secret before signs too
CALLBACK_PIECES_KEPT_MAX = 16  # free send buffers kept for the next request
DNS_LOOKUPS_MAX = 20  # threads that resolve names at once
DNS_DOUBTFUL_LOOKUPS_MAX = 5  # of these, for names whose last lookup brought nothing (INV-9)
DNS_DOUBTFUL_NAMES_MAX = 10_000  # such names remembered; the oldest is forgotten

# --- events that are parked -----------------------------------------------------------
REFUSALS_BEFORE_PARKING = 2  # of an event that came alone, with the channel's pause between them
PARKED_EVENTS_PER_CHANNEL_MAX = 1_000
PARKED_BYTES_PER_CHANNEL_MAX = 16 * MIB  # of their messages; a channel over either parks no more

# --- what an operator sees ------------------------------------------------------------
ATTEMPTS_PER_CHANNEL_MAX = 100  # remembered, since the start
ATTEMPT_LOGS_MAX = 20_000  # channels that have some; 50 MB in all
ADMIN_PAGE_MAX = 1_000  # items of one answer
ADMIN_PAGE = 100  # when nothing else is asked for
SEARCH_CHARS_MAX = 64  # a name has no more
PEEK_RECORDS_MAX = 100
PEEK_RECORDS = 10  # when nothing else is asked for
PEEK_BYTES_MAX = 4 * MIB  # of records; ends with the one that reaches it
VIEWERS_MAX = 64  # event streams open at once
VIEWED_CHANNELS_MAX = 100  # that one stream follows closely
VIEWED_CHANGES_MAX = 100  # of other channels, told in one message; the rest is a number
FLEET_CHANNELS_PER_STEP = 200  # looked at before others get their turn: about 1 ms
FLEET_LOOK_S = 1.0  # between looks at all channels, while anyone watches
FLEET_LOOK_SHARE = 10  # or so many times what a look took: a tenth of the time at most goes into it
OPERATOR_WARNINGS_MAX = 500  # that wait for the webhook, and in one message: 150 KB; more are a number
OPERATOR_GATHER_S = 1.0  # what comes in so long goes as one message
OPERATOR_REQUEST_S = 10.0  # for one attempt
OPERATOR_RETRY_INITIAL_S = 1.0  # doubles
OPERATOR_RETRY_MAX_S = 60.0
OPERATOR_GIVE_UP_S = 600.0  # a message that found no taker for so long is dropped, and said to be
TRACE_NOTES_PER_CHANNEL_MAX = 64  # recorded requests whose events wait in one channel
TRACE_CHANNELS_MAX = 10_000  # that have such notes; 100 MB at worst
TRACE_CHANNELS_PER_REQUEST_MAX = 100  # noted of one request; a fan-out to more is followed into these
TRACE_LINKS_MAX = 32  # requests that one delivery is linked to
TRACE_STATE_CHARS_MAX = 512  # W3C Trace Context, 3.3.1.5
TRACE_SPANS_MAX = 2_048  # that wait for the collector; OpenTelemetry's own number, as the next
TRACE_EXPORT_SPANS = 512  # in one request to it
TRACE_EXPORT_S = 5  # for one such request
TRACE_CLOSE_S = 3.0  # for the last ones, when the dispatcher ends
WATCH_S = 10.0  # between looks at whether events are accepted, and at certificates
STREAM_KEEP_ALIVE_S = 15.0  # of silence on an event stream, before a comment proves that it lives

# --- registry -------------------------------------------------------------------------
NAME_CHARS_MAX = 64  # of an account or an application
REGISTRY_BUSY_S = 5.0  # for another process's transaction to end; a commit takes milliseconds
REGISTRY_CONVERT_ATTEMPTS_MAX = 50  # to make a new file's journal a WAL while others try the same
REGISTRY_CONVERT_PAUSE_S = 0.02  # between them: a second in all
CONTROL_POKE_S = 2.0  # the command line's patience with a daemon that does not answer its poke

# --- daemon ---------------------------------------------------------------------------
KEY_RELOAD_INTERVAL_S = 0.5  # one row of the registry; the only poll in the program
CLOCK_KEPT_S = 0.0005  # a reading of the wall clock is given again
CLOCK_STEP_S = 2.0  # a wall clock that runs ahead by more than this was set forward
LIFE_TIMES_SAVE_S = 60.0  # how much up time a crash may take from the removal clocks
CHANNELS_PER_STEP = 1_000  # looked at before others get their turn: about 1 ms
REMOVAL_RETRY_S = 60.0  # before a channel is tried again that the registry could not remove
EXPIRY_PAUSE_S = 0.1  # before events past their lifetime are looked for again in a channel that is sending
RECOVERY_LOSSES_LOGGED_MAX = 100  # lines at start on what a damaged journal lost; the rest is one number
LOSS_LOG_INTERVAL_S = 60.0  # between two log lines on one channel's losses of one reason
STOP_CONFIRM_S = 2.0  # for the pongs to what is on its way when the daemon stops
STOP_RESERVE_S = 0.5  # of the grace time, to write the last acknowledgements and close files
TURN_S_MAX = 0.002  # of the event loop, before work that comes in crowds waits for the next
TURN_STEPS_FIRST = 16  # let go for one turn, before it is known how long they take
CHANNEL_TASKS_RESTING_MAX = 64  # tasks without a channel that are kept for the next; 4 KB each
TASK_RESTART_S = 1.0  # pause before a failed channel task starts again
GARBAGE_THRESHOLDS = (50_000, 3, 10)  # new objects, turns of the young and of the old; Python: 700, 10, 10
NOTIFY_S = 2.0  # for room in the queue of the service manager; it empties it all the time
UNIX_SOCKET_BYTES_MAX = 107  # of a path, the kernel's own number

# --- command line ---------------------------------------------------------------------
BACKUP_STEP_BYTES = 1 * MIB  # copied at a time
PROGRESS_AFTER_S = 0.5  # shorter work needs no bar
PROGRESS_EVERY_S = 0.1  # it is drawn anew
DOCTOR_SYNCS = 50  # small writes that the disk is judged by
CLIENT_CONNECT_S = 10.0  # for the name, TCP and TLS together
CLIENT_REQUEST_S = REQUEST_BODY_TIMEOUT_S + RESPONSE_STALL_S  # what the server itself allows
CLIENT_RECEIVE_BYTES = 64 * KIB
CLIENT_ANSWER_BYTES_MAX = 16 * MIB  # the largest is /metrics
CLIENT_RETRIES_MAX = 8  # of one request, on 429, 503, 507 or a lost connection
CLIENT_RETRY_INITIAL_S = 0.5  # doubles
CLIENT_RETRY_S_MAX = 30.0  # eight retries give a restarting server about a minute and a half
PUBLISH_REQUEST_BYTES = 8 * MIB  # half of what a request may be, unless one line is larger
PUBLISH_REQUEST_LINES = 50_000
TAIL_MESSAGE_BYTES_MAX = 64 * MIB  # a tier's websocket_batch_bytes may be raised over the default 1 MB
TAIL_RECONNECTS_MAX = 10  # in a row without a message
TAIL_RECONNECT_INITIAL_S = 1.0  # doubles
TAIL_RECONNECT_S_MAX = 30.0
TAIL_LAST_PONG_S = 0.5  # for the pong to the last message, before the Close frame
TAIL_CLOSE_S = 2.0  # for the server's answer to our Close frame
TCP_KEEP_ALIVE_IDLE_S = 30  # a server that vanished is noticed after a minute
TCP_KEEP_ALIVE_INTERVAL_S = 10
TCP_KEEP_ALIVE_PROBES = 3
DEMO_DEVICES_MAX = 100_000
DEMO_RATE_MAX = 200_000  # events/s; what a machine cannot take is not posted, and said
DEMO_EVENTS_MAX = 5_000_000  # in one run; the books of two channels take 80 MB, and 600 MB at the end
DEMO_BODY_EVENTS_MAX = 5_000  # in one request, when the fleet is behind
DEMO_TICK_S = 0.02  # a simulated gateway posts what came in so long
DEMO_OVERRUN_S = 2.0  # a fleet that is behind by more stops
DEMO_START_S = 30.0  # for the daemon to say that it is ready
DEMO_STALL_S = 15.0  # without any event coming, while some are missing; retries pause at most 4 s
DEMO_STOP_S = 15.0  # for the daemon to end after SIGTERM; its own grace is 10 s
DEMO_LOG_LINES = 20  # of the daemon's, shown after a failure

assert REQUEST_BODY_BYTES_MAX <= REQUEST_BODIES_BYTES_MAX
assert REQUEST_BODY_BYTES_MAX < JOURNAL_GROUP_BYTES_MAX
# A full disk shows when a segment has been begun.  Two groups are on their way then, large ones at
# worst, and a quarter is left for acks; with smaller ones, the rest is for cleaning.
assert 2 * JOURNAL_GROUP_BYTES_MAX <= JOURNAL_SEGMENT_BYTES * 3 // 4
assert LEARNED_BATCH_BYTES_MIN <= SEND_PIECE_BYTES <= WINDOW_BYTES_MAX
assert 2 * GAPS_PER_CHANNEL_MAX * GAP_BYTES_MAX < LEARNED_BATCH_BYTES_MIN
assert CALLBACK_RETRIES_MAX < CALLBACK_SENDS_MAX
assert DNS_DOUBTFUL_LOOKUPS_MAX < DNS_LOOKUPS_MAX
assert PAYLOAD_BYTES_MAX * 4 // 3 + 4 * KIB < RECORD_BYTES_MAX
assert REQUEST_BODY_BYTES_MAX <= INGEST_BODIES_BYTES_MAX
assert INGEST_REQUESTS_PER_GATEWAY_MAX <= INGEST_REQUESTS_MAX
assert MAX_CHUNK_SIZE_MIN < MAX_CHUNK_SIZE_MAX
assert PUBLISH_REQUEST_BYTES <= REQUEST_BODY_BYTES_MAX
