-- The bids and the auctions of ten million Nexmark events, at 10,000 per second of event time, in twenty batches.
CREATE UNBOUNDED EXTERNAL TABLE bids STORED AS NEXMARK LOCATION 'nexmark://bid?events=10000000&seed=1&rate=10000'
    OPTIONS ('max_rows_per_batch' '460000');
CREATE UNBOUNDED EXTERNAL TABLE auctions STORED AS NEXMARK LOCATION 'nexmark://auction?events=10000000&seed=1&rate=10000'
    OPTIONS ('max_rows_per_batch' '30000');
CREATE EXTERNAL TABLE bid STORED AS PARQUET LOCATION 'events/bid/';
CREATE EXTERNAL TABLE auction STORED AS PARQUET LOCATION 'events/auction/';
INSERT INTO bid SELECT * FROM bids;
INSERT INTO auction SELECT * FROM auctions;
