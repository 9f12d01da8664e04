-- The DuckDB file made by `redline.store.database.ingest` from trial directories. Nothing in it is original:
-- delete it, ingest again, and the content is the same.
--
-- Times are integer nanoseconds since the start of the repeat. Names follow docs/glossary.md.
-- Only functions that DuckDB 1.4 to 2.0 share (no lambdas).

CREATE TABLE about (key VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);

-- The metric catalogue (redline.metrics) the readings were computed with.
CREATE TABLE metrics (
    metric VARCHAR PRIMARY KEY,
    label VARCHAR NOT NULL,
    unit VARCHAR NOT NULL,
    better VARCHAR NOT NULL,
    definition VARCHAR NOT NULL
);

CREATE TABLE pins (
    pin_id VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL,
    distribution VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    platform VARCHAR NOT NULL,
    python_version VARCHAR NOT NULL,
    wheel_sha256 VARCHAR,
    url VARCHAR,
    lock VARCHAR NOT NULL,
    commit VARCHAR NOT NULL
);

-- Systems under test: a pin and how it is started. `models`: recipe -> the model that replaces its own. The router
-- is a cluster's, empty elsewhere.
CREATE TABLE systems (
    sut_id VARCHAR PRIMARY KEY,
    pin_id VARCHAR NOT NULL,
    label VARCHAR NOT NULL,
    extra_args VARCHAR[] NOT NULL,
    models STRUCT(recipe VARCHAR, model VARCHAR)[] NOT NULL,
    router_image VARCHAR NOT NULL,
    router_config VARCHAR NOT NULL
);

-- The servers over which a trial's load was spread, in the order of requests.replica; none in records from before.
CREATE TABLE replicas (
    trial_id VARCHAR NOT NULL,
    replica INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    device_uuids VARCHAR[] NOT NULL,
    start_s DOUBLE NOT NULL
);

-- Every trial, also `invalid` and `partial` ones: ask for status = 'valid' where it matters.
CREATE TABLE trials (
    trial_id VARCHAR PRIMARY KEY,
    digest VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    arm VARCHAR NOT NULL,
    pair_index BIGINT NOT NULL,
    sut_id VARCHAR NOT NULL,
    spec VARCHAR NOT NULL,
    scenario VARCHAR NOT NULL,
    scenario_hash VARCHAR NOT NULL,
    runner_class VARCHAR NOT NULL,
    fingerprint_id VARCHAR NOT NULL,
    fingerprint_facts MAP(VARCHAR, VARCHAR) NOT NULL,
    fingerprint_notes MAP(VARCHAR, VARCHAR) NOT NULL,
    started_at VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    reported_version VARCHAR NOT NULL,
    start_s DOUBLE NOT NULL,
    detail VARCHAR NOT NULL
);

-- A repeat counts when its drop_reason is empty. What the load client says about itself stands in client_*:
-- whose stamps (kernel, user, mixed), how tokens per chunk are known (ids, usage, assumed), and how many chunks
-- shared a read with later ones, so that their stamps are upper bounds (coalesced).
CREATE TABLE repeats (
    trial_id VARCHAR NOT NULL,
    "index" BIGINT NOT NULL,
    started_at VARCHAR NOT NULL,
    duration_ns BIGINT NOT NULL,
    foreign_cpu_share DOUBLE,
    steal_share DOUBLE NOT NULL,
    drop_reason VARCHAR NOT NULL,
    client_cpu_s DOUBLE NOT NULL,
    client_stamps VARCHAR NOT NULL,
    client_token_counts VARCHAR NOT NULL,
    client_chunk_count BIGINT NOT NULL,
    client_coalesced_count BIGINT NOT NULL,
    client_connection_count BIGINT NOT NULL,
    client_resent_count BIGINT NOT NULL,
    client_clock_step_ns BIGINT NOT NULL,
    client_tls BOOLEAN NOT NULL,
    client_simulated BOOLEAN NOT NULL
);

-- chunk_ns and chunk_tokens have one entry per chunk that carried at least one generated token.
CREATE TABLE requests (
    trial_id VARCHAR NOT NULL,
    repeat BIGINT NOT NULL,
    "index" BIGINT NOT NULL,
    outcome VARCHAR NOT NULL,
    sched_ns BIGINT NOT NULL,
    send_ns BIGINT NOT NULL,
    done_ns BIGINT NOT NULL,
    chunk_ns BIGINT[] NOT NULL,
    chunk_tokens INTEGER[] NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    output_text VARCHAR NOT NULL,
    finish_reason VARCHAR NOT NULL,
    detail VARCHAR NOT NULL,
    score DOUBLE,
    replica INTEGER NOT NULL,
    resent BOOLEAN NOT NULL
);

-- Differences of the server's own /metrics over a repeat.
CREATE TABLE server_counters (
    trial_id VARCHAR NOT NULL,
    repeat BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    value DOUBLE NOT NULL
);

-- Readings of the machine during a repeat, at_ns since its start. `source`: cpu, an accelerator's UUID, or sampler for
-- what the sampler says of itself. None in records from before, and where nothing was sampled.
CREATE TABLE telemetry (
    trial_id VARCHAR NOT NULL,
    repeat BIGINT NOT NULL,
    at_ns BIGINT NOT NULL,
    source VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    value DOUBLE NOT NULL
);

-- Every validity rule of every trial, kept or broken, in the order it was checked.
CREATE TABLE validity (
    trial_id VARCHAR NOT NULL,
    position BIGINT NOT NULL,
    rule VARCHAR NOT NULL,
    reading VARCHAR NOT NULL,
    rule_limit VARCHAR NOT NULL,
    ok BOOLEAN NOT NULL
);

-- One metric of one trial in its base unit, by redline.metrics.reading_of. Undefined: no row, never 0.
CREATE TABLE readings (
    trial_id VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    value DOUBLE NOT NULL
);

-- What the scorer says of all answers of a trial together, by its own names and units (rouge1 in percent, wer, ...).
CREATE TABLE figures (
    trial_id VARCHAR NOT NULL,
    figure VARCHAR NOT NULL,
    value DOUBLE NOT NULL
);

-- Why regressions that were proven were taken all the same; `number` is the pull request's, head_sha the commit that was
-- judged, run_ids the runs that judged it. From files of their own, not from trials.
CREATE TABLE justifications (
    justification_id VARCHAR PRIMARY KEY,
    repository VARCHAR NOT NULL,
    number BIGINT NOT NULL,
    head_sha VARCHAR NOT NULL,
    run_ids VARCHAR[] NOT NULL,
    reason VARCHAR NOT NULL,
    justified_by VARCHAR NOT NULL,
    justified_at VARCHAR NOT NULL,
    url VARCHAR NOT NULL
);

-- Latencies of every request in seconds, undefined is NULL. `counted`: its repeat was not dropped.
CREATE VIEW request_latency AS
SELECT
    requests.trial_id,
    requests.repeat,
    requests."index",
    requests.replica,
    requests.outcome,
    repeats.drop_reason = '' AS counted,
    requests.prompt_tokens,
    requests.output_tokens,
    (send_ns - sched_ns) / 1e9 AS schedule_lag_s,
    (chunk_ns[1] - sched_ns) / 1e9 AS ttft_s,
    (chunk_ns[1] - send_ns) / 1e9 AS ttft_sent_s,
    CASE WHEN len(chunk_ns) > 1 AND output_tokens > chunk_tokens[1]
        THEN (chunk_ns[-1] - chunk_ns[1]) / 1e9 / CAST(output_tokens - chunk_tokens[1] AS DOUBLE)
    END AS tpot_s,
    (chunk_ns[-1] - sched_ns) / 1e9 AS e2e_s
FROM requests
JOIN repeats ON repeats.trial_id = requests.trial_id AND repeats."index" = requests.repeat;

-- Gaps between the chunks of completed requests whose tokens per chunk are known. `itl_s` counts once for each
-- of the later chunk's `tokens`.
CREATE VIEW chunk_gaps AS
WITH chunks AS (
    SELECT trial_id, repeat, "index",
        unnest(chunk_ns) AS at_ns, unnest(chunk_tokens) AS tokens, unnest(range(len(chunk_ns))) AS position
    FROM requests
    WHERE outcome = 'ok' AND list_sum(chunk_tokens) = output_tokens
), gaps AS (
    SELECT *, at_ns - lag(at_ns) OVER (PARTITION BY trial_id, repeat, "index" ORDER BY position) AS gap_ns
    FROM chunks
)
SELECT trial_id, repeat, "index", position, tokens, gap_ns / 1e9 AS icl_s, gap_ns / 1e9 / tokens AS itl_s
FROM gaps
WHERE gap_ns IS NOT NULL;

-- Every metric of every repeat, recomputed from the event times. p99: sorted[int(n * 0.99)], capped at the last.
-- Source: redline.metrics, which a test holds this against.
CREATE VIEW repeat_readings AS
WITH windows AS (
    SELECT trial_id, repeat,
        sum(output_tokens) AS tokens,
        count(*) AS request_count,
        CAST(max(done_ns) - min(sched_ns) AS DOUBLE) AS window_ns
    FROM requests
    WHERE outcome = 'ok'
    GROUP BY ALL
), latencies AS (
    UNPIVOT (SELECT trial_id, repeat, ttft_s, tpot_s, e2e_s FROM request_latency WHERE outcome = 'ok')
    ON ttft_s, tpot_s, e2e_s INTO NAME quantity VALUE latency
), latency_statistics AS (
    SELECT trial_id, repeat, quantity, median(latency) AS middle,
        list_sort(list(latency))[least(CAST(floor(count(*) * 0.99e0) AS BIGINT), count(*) - 1) + 1] AS p99
    FROM latencies
    GROUP BY ALL
), ranked_gaps AS (
    SELECT trial_id, repeat, itl_s,
        sum(tokens) OVER (PARTITION BY trial_id, repeat ORDER BY itl_s) AS rank_last,
        sum(tokens) OVER (PARTITION BY trial_id, repeat) AS gap_count
    FROM chunk_gaps
)
SELECT trial_id, repeat, 'output_tokens_per_s' AS metric, tokens * 1e9 / window_ns AS value
FROM windows WHERE window_ns > 0 AND tokens > 0
UNION ALL
SELECT trial_id, repeat, 'requests_per_s', request_count * 1e9 / window_ns FROM windows WHERE window_ns > 0
UNION ALL
SELECT trial_id, repeat, quantity || '_median', middle FROM latency_statistics
UNION ALL
SELECT trial_id, repeat, quantity || '_p99', p99 FROM latency_statistics
UNION ALL
SELECT trial_id, repeat, 'itl_s_p99', min(itl_s) FROM ranked_gaps
WHERE rank_last > least(CAST(floor(CAST(gap_count AS BIGINT) * 0.99e0) AS BIGINT), gap_count - 1)
GROUP BY trial_id, repeat
UNION ALL
SELECT trial_id, repeat, 'item_score', sum(coalesce(score, 0)) / count(*) FILTER (score IS NOT NULL OR outcome <> 'ok') FROM requests
GROUP BY trial_id, repeat HAVING count(score) > 0
UNION ALL
SELECT trial_id, repeat, 'exact_match', sum(coalesce(score, 0)) / count(*) FILTER (score IS NOT NULL OR outcome <> 'ok') FROM requests
GROUP BY trial_id, repeat HAVING count(score) > 0 AND coalesce(bool_and(score IN (0, 1)), false);

-- A line per trial: who, what, where, and its readings in columns.
CREATE VIEW trial_readings AS
WITH wide AS (
    SELECT trial_id,
        max(value) FILTER (metric = 'output_tokens_per_s') AS output_tokens_per_s,
        max(value) FILTER (metric = 'requests_per_s') AS requests_per_s,
        max(value) FILTER (metric = 'ttft_s_median') AS ttft_s_median,
        max(value) FILTER (metric = 'ttft_s_p99') AS ttft_s_p99,
        max(value) FILTER (metric = 'tpot_s_median') AS tpot_s_median,
        max(value) FILTER (metric = 'tpot_s_p99') AS tpot_s_p99,
        max(value) FILTER (metric = 'itl_s_p99') AS itl_s_p99,
        max(value) FILTER (metric = 'e2e_s_median') AS e2e_s_median,
        max(value) FILTER (metric = 'e2e_s_p99') AS e2e_s_p99,
        max(value) FILTER (metric = 'item_score') AS item_score,
        max(value) FILTER (metric = 'exact_match') AS exact_match
    FROM readings
    GROUP BY trial_id
)
SELECT trials.trial_id, run_id, arm, pair_index, systems.label AS sut_label, scenario, runner_class,
    fingerprint_id, started_at, status, wide.* EXCLUDE (trial_id)
FROM trials
JOIN systems USING (sut_id)
LEFT JOIN wide USING (trial_id);
