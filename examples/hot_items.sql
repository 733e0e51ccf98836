-- The README's first command: the hottest item of an auction house in the last ten seconds, every two seconds. The built-in generator makes the
-- bids; a window's row comes out once the event time has passed its end.

CREATE UNBOUNDED EXTERNAL TABLE bid
STORED AS NEXMARK LOCATION 'nexmark://bid?events=1000000&seed=1&rate=10000'
OPTIONS ('max_rows_per_batch' '250000', 'event_time' 'date_time', 'watermark_delay' '2 seconds');

CREATE EXTERNAL TABLE hot_items STORED AS STDOUT LOCATION 'stdout://';

INSERT INTO hot_items
SELECT
    window_start(w) AS start,
    window_end(w) AS "end",
    first_value(auction ORDER BY bids DESC, auction) AS auction,
    max(bids) AS bids
FROM (
    SELECT hop(date_time, INTERVAL '2 seconds', INTERVAL '10 seconds') AS w, auction, count(*) AS bids
    FROM bid
    GROUP BY hop(date_time, INTERVAL '2 seconds', INTERVAL '10 seconds'), auction
) AS counts
GROUP BY w;
