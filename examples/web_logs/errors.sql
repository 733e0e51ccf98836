-- Web server logs, line by line, into requests that failed.
-- Each line of the common log format is one row with one column, `value`; a regular expression takes it apart.

CREATE UNBOUNDED EXTERNAL TABLE access (value VARCHAR)
STORED AS TEXT LOCATION 'examples/web_logs/access/'
OPTIONS ('max_files_per_batch' '1');

CREATE EXTERNAL TABLE failed STORED AS STDOUT LOCATION 'stdout://';

INSERT INTO failed
SELECT
    to_timestamp_micros(to_unixtime(field[2], '%d/%b/%Y:%H:%M:%S %z') * 1000000) AS time,
    field[1] AS client,
    field[3] AS method,
    split_part(field[4], '?', 1) AS path,
    CAST(field[5] AS INT) AS status,
    CASE field[6] WHEN '-' THEN 0 ELSE CAST(field[6] AS BIGINT) END AS bytes
FROM (
    SELECT regexp_match(value, '^(\S+) \S+ \S+ \[([^\]]+)\] "(\S+) (\S+)[^"]*" (\d{3}) (\d+|-)') AS field FROM access
)
WHERE CAST(field[5] AS INT) >= 400;
