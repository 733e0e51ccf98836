//! Nexmark queries, in Waterclock's SQL and in DataFusion's.

use crate::events::Table;

/// A query over one of Nexmark's tables.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// Nexmark's name for it.
    pub name: &'static str,
    /// The table that it reads.
    pub table: Table,
    /// The mode of its sink.
    pub mode: &'static str,
    /// The SELECT.
    pub sql: &'static str,
    /// The SELECT that gives the same over all rows at once.
    pub one_shot: &'static str,
}

/// A query without a memory: both answer it in the same words.
const fn stateless(name: &'static str, sql: &'static str) -> Query {
    Query { name, table: Table::Bid, mode: "append", sql, one_shot: sql }
}

/// A query whose groups are replaced as they change: in the same words, too.
const fn updating(name: &'static str, table: Table, sql: &'static str) -> Query {
    Query { name, table, mode: "update", sql, one_shot: sql }
}

/// A query whose windows are written once they have closed.
const fn windowed(name: &'static str, sql: &'static str, one_shot: &'static str) -> Query {
    Query { name, table: Table::Bid, mode: "append", sql, one_shot }
}

/// The queries that need no memory.
pub const STATELESS: [Query; 6] = [
    stateless("q0", "SELECT auction, bidder, price, date_time, extra FROM bid"),
    stateless("q1", "SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid"),
    stateless("q2", "SELECT auction, price FROM bid WHERE auction % 123 = 0"),
    stateless(
        "q14",
        "SELECT auction, bidder, 0.908 * price AS price,
                     CASE WHEN extract(hour FROM date_time) >= 8 AND extract(hour FROM date_time) <= 18 THEN 'dayTime'
                          WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'nightTime'
                          ELSE 'otherTime' END AS bid_time_type,
                     date_time, extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts
              FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000",
    ),
    stateless(
        "q21",
        "SELECT auction, bidder, price, channel,
                     CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
                          ELSE (regexp_match(url, '(&|^)channel_id=([^&]*)'))[2] END AS channel_id
              FROM bid
              WHERE (regexp_match(url, '(&|^)channel_id=([^&]*)'))[2] IS NOT NULL
                 OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')",
    ),
    stateless(
        "q22",
        "SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2,
                     split_part(url, '/', 6) AS dir3 FROM bid",
    ),
];

/// Queries with a memory.
pub const STATEFUL: [Query; 8] = [
    // How often the hottest item of each window was bid for.
    windowed(
        "q5",
        "SELECT window_start(w) AS start, window_end(w) AS \"end\", max(num) AS num FROM (
             SELECT hop(date_time, INTERVAL '2 seconds', INTERVAL '10 seconds') AS w, auction, count(*) AS num
             FROM bid GROUP BY hop(date_time, INTERVAL '2 seconds', INTERVAL '10 seconds'), auction) counts
         GROUP BY w",
        "SELECT start, start + INTERVAL '10 seconds' AS \"end\", max(num) AS num FROM (
             SELECT start, auction, count(*) AS num FROM (
                 SELECT date_bin(INTERVAL '2 seconds', date_time) - back AS start, auction
                 FROM bid CROSS JOIN (VALUES (INTERVAL '0 seconds'), (INTERVAL '2 seconds'), (INTERVAL '4 seconds'),
                     (INTERVAL '6 seconds'), (INTERVAL '8 seconds')) AS hops (back)) bids
             GROUP BY start, auction) counts
         GROUP BY start",
    ),
    windowed(
        "q7",
        "SELECT window_start(tumble(date_time, INTERVAL '10 seconds')) AS start, max(price) AS price
         FROM bid GROUP BY tumble(date_time, INTERVAL '10 seconds')",
        "SELECT date_bin(INTERVAL '10 seconds', date_time) AS start, max(price) AS price FROM bid GROUP BY 1",
    ),
    windowed(
        "q11",
        "SELECT bidder, window_start(session(date_time, INTERVAL '10 seconds')) AS start,
             window_end(session(date_time, INTERVAL '10 seconds')) AS \"end\", count(*) AS num
         FROM bid GROUP BY bidder, session(date_time, INTERVAL '10 seconds')",
        "SELECT bidder, min(date_time) AS start, max(date_time) + INTERVAL '10 seconds' AS \"end\", count(*) AS num FROM (
             SELECT *, sum(new) OVER (PARTITION BY bidder ORDER BY date_time, new DESC ROWS UNBOUNDED PRECEDING) AS island FROM (
                 SELECT bidder, date_time, CASE WHEN date_time <= lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time)
                     + INTERVAL '10 seconds' THEN 0 ELSE 1 END AS new FROM bid) gaps) islands
         GROUP BY bidder, island",
    ),
    windowed(
        "q12",
        "SELECT bidder, window_start(tumble(date_time, INTERVAL '10 seconds')) AS start, count(*) AS num
         FROM bid GROUP BY bidder, tumble(date_time, INTERVAL '10 seconds')",
        "SELECT bidder, date_bin(INTERVAL '10 seconds', date_time) AS start, count(*) AS num FROM bid GROUP BY 1, 2",
    ),
    updating(
        "q15",
        Table::Bid,
        "SELECT date_trunc('day', date_time) AS day, count(*) AS total_bids,
             count(*) FILTER (WHERE price < 10000) AS rank1_bids,
             count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
             count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
             count(DISTINCT bidder) AS total_bidders,
             count(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
             count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bidders,
             count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders,
             count(DISTINCT auction) AS total_auctions,
             count(DISTINCT auction) FILTER (WHERE price < 10000) AS rank1_auctions,
             count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_auctions,
             count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS rank3_auctions
         FROM bid GROUP BY date_trunc('day', date_time)",
    ),
    updating(
        "q17",
        Table::Bid,
        "SELECT auction, date_trunc('day', date_time) AS day, count(*) AS total_bids,
             count(*) FILTER (WHERE price < 10000) AS rank1_bids,
             count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
             count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
             min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price, sum(price) AS sum_price
         FROM bid GROUP BY auction, date_trunc('day', date_time)",
    ),
    // What it is in the peers' files; bids of one moment are told apart by their price.
    updating(
        "q18",
        Table::Bid,
        "SELECT bidder, auction, first_value(price ORDER BY date_time, price) AS first_price,
             last_value(price ORDER BY date_time, price) AS last_price
         FROM bid GROUP BY bidder, auction",
    ),
    updating(
        "words",
        Table::Auction,
        "SELECT word, count(*) AS num FROM (SELECT unnest(string_to_array(description, ' ')) AS word FROM auction) words GROUP BY word",
    ),
];

/// All of them.
pub fn all() -> impl Iterator<Item = Query> {
    STATELESS.into_iter().chain(STATEFUL)
}
