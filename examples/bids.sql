-- The README's first command: an auction house's bids, made by the built-in generator, and the most expensive of them as a table.

CREATE UNBOUNDED EXTERNAL TABLE bid
STORED AS NEXMARK LOCATION 'nexmark://bid?events=1000000&seed=1&rate=10000'
OPTIONS ('max_rows_per_batch' '250000');

CREATE EXTERNAL TABLE top_bids STORED AS STDOUT LOCATION 'stdout://';

INSERT INTO top_bids
SELECT date_time, auction, bidder, price, channel, split_part(url, '/', 4) AS directory
FROM bid
WHERE price > 99990000;
