-- job.sql, changed: Apple's bids are counted among the others. What would have been different?

CREATE UNBOUNDED EXTERNAL TABLE bid
STORED AS NEXMARK LOCATION 'nexmark://bid?events=500000&seed=1&rate=10000'
OPTIONS ('max_rows_per_batch' '100000', 'event_time' 'date_time', 'watermark_delay' '2 seconds');

CREATE EXTERNAL TABLE channels STORED AS JSON LOCATION 'target/replay/output/';

INSERT INTO channels
SELECT
    window_start(tumble(date_time, INTERVAL '10 seconds')) AS start,
    CASE WHEN channel LIKE 'channel-%' OR channel = 'Apple' THEN 'other' ELSE channel END AS channel,
    count(*) AS bids,
    max(price) AS highest
FROM bid
GROUP BY tumble(date_time, INTERVAL '10 seconds'), CASE WHEN channel LIKE 'channel-%' OR channel = 'Apple' THEN 'other' ELSE channel END;
